#include "fabric/lanes/stream_lane.hpp"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace troupe::fabric {

using namespace protocols;

namespace {

/// Read beyond the frame that is arriving, so that small frames share a system call.
constexpr std::size_t read_ahead_bytes = 64 * 1024;

bool would_block(int error) noexcept {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

} // namespace

stream_lane::stream_lane(base::unique_fd socket, const edge& between, const lane_options& options)
    : socket_(std::move(socket)), edge_(between), frame_bytes_max_(options.frame_bytes_max),
      unsent_bytes_max_(std::max(options.in_flight_bytes_max, options.frame_bytes_max)),
      in_(std::make_unique_for_overwrite<std::byte[]>(options.frame_bytes_max + read_ahead_bytes)),
      in_bytes_(options.frame_bytes_max + read_ahead_bytes) {
  ::fcntl(socket_.get(), F_SETFL, ::fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
  const int on = 1; // refused by a unix socket, which has no delay to switch off
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

stream_lane::~stream_lane() {
  flush();
  close();
}

failure stream_lane::peer_gone(std::string_view how) const {
  std::string what = "rank " + std::to_string(edge_.peer.value);
  if (!how.empty())
    (what += ": ") += how;
  return {fault::peer_gone, std::move(what)};
}

// ---- producer side ----

result<void> stream_lane::try_send(frame_header header, std::span<const std::byte> payload) {
  if (auto allowed = edge_.admit(header); !allowed)
    return allowed;
  const std::lock_guard lock{sending_};
  if (auto room = make_room(limits::frame_header_bytes + payload.size()); !room)
    return room;
  return put(stamp(header, payload), payload);
}

header_bytes stream_lane::stamp(frame_header header, std::span<const std::byte> payload) {
  header_bytes bytes;
  encode_header(edge_.stamp(header, ++sent_, payload.size()), payload, bytes);
  return bytes;
}

result<void> stream_lane::try_send_stamped(const header_bytes& header, std::span<const std::byte> payload) {
  const std::lock_guard lock{sending_};
  if (auto room = make_room(header.size() + payload.size()); !room)
    return room;
  return put(header, payload);
}

/// With the mutex held, as `put`.
result<void> stream_lane::make_room(std::size_t total) {
  if (total > frame_bytes_max_)
    return fail(fault::frame_too_long, std::to_string(total) + " bytes, at most " + std::to_string(frame_bytes_max_));
  if (unsent_bytes() != 0)
    push_unsent();
  if (closed_.load(std::memory_order_acquire) || send_ended_.load(std::memory_order_acquire))
    return tl::unexpected<failure>{peer_gone({})};
  if (unsent_bytes() + total > unsent_bytes_max_) {
    refused_bytes_ = total;
    return fail(fault::lane_full);
  }
  refused_bytes_ = 0;
  return {};
}

result<void> stream_lane::put(const header_bytes& header, std::span<const std::byte> payload) {
  const std::size_t total = header.size() + payload.size();
  std::size_t taken = 0;
  if (unsent_bytes() == 0) {
    std::array<iovec, 2> parts{{{const_cast<std::byte*>(header.data()), header.size()},
                                {const_cast<std::byte*>(payload.data()), payload.size()}}};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = payload.empty() ? 1 : 2;
    const auto sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && !would_block(errno)) {
      const int error = errno;
      send_ended_.store(true, std::memory_order_release);
      return tl::unexpected<failure>{peer_gone(std::strerror(error))};
    }
    taken = sent < 0 ? 0 : static_cast<std::size_t>(sent);
  }
  if (taken < header.size())
    keep_unsent(std::span{header}.subspan(taken));
  if (taken < total)
    keep_unsent(payload.subspan(std::max(taken, header.size()) - header.size()));
  return {};
}

void stream_lane::keep_unsent(std::span<const std::byte> bytes) {
  if (!unsent_)
    unsent_ = std::make_unique_for_overwrite<std::byte[]>(unsent_bytes_max_);
  if (unsent_end_ + bytes.size() > unsent_bytes_max_) {
    std::memmove(unsent_.get(), unsent_.get() + unsent_begin_, unsent_bytes());
    unsent_end_ = unsent_bytes();
    unsent_begin_ = 0;
  }
  if (!bytes.empty())
    std::memcpy(unsent_.get() + unsent_end_, bytes.data(), bytes.size());
  unsent_end_ += bytes.size();
  has_unsent_.store(unsent_bytes() != 0, std::memory_order_release);
}

/// With the mutex held. True: nothing is left, or nobody is there to take it.
bool stream_lane::push_unsent() {
  while (unsent_bytes() != 0) {
    const auto sent = ::send(socket_.get(), unsent_.get() + unsent_begin_, unsent_bytes(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && would_block(errno))
      return false;
    if (sent < 0) {
      send_ended_.store(true, std::memory_order_release);
      break;
    }
    unsent_begin_ += static_cast<std::size_t>(sent);
  }
  unsent_begin_ = unsent_end_ = 0;
  has_unsent_.store(false, std::memory_order_release);
  return true;
}

bool stream_lane::flush() {
  if (!has_unsent_.load(std::memory_order_acquire))
    return true;
  const std::lock_guard lock{sending_};
  return push_unsent();
}

// ---- consumer side ----

result<std::optional<frame_view>> stream_lane::peek() {
  if (front_)
    return front_;
  if (closed_.load(std::memory_order_acquire))
    return tl::unexpected<failure>{peer_gone({})};
  flush();
  auto found = parse();
  for (; found && !*found; found = parse()) { // each turn takes what has arrived of one bounded frame
    const auto more = read_some();
    if (!more) {
      close();
      return tl::unexpected<failure>{more.error()};
    }
    if (!*more)
      return std::nullopt;
  }
  if (found)
    front_ = *found;
  else
    close();
  return found;
}

/// The next frame of what has arrived, checked as far as it is there.
result<std::optional<frame_view>> stream_lane::parse() {
  const std::byte* begin = in_.get() + in_begin_;
  if (received_bytes() < limits::frame_header_bytes) {
    if (!may_begin_frame({begin, received_bytes()}))
      return fail(fault::bad_magic);
    return std::nullopt;
  }
  const std::span<const std::byte, limits::frame_header_bytes> bytes{begin, limits::frame_header_bytes};
  if (!arriving_) {
    const auto header = decode_header(bytes, frame_bytes_max_);
    if (!header)
      return tl::unexpected<failure>{header.error()};
    arriving_ = *header;
  }
  if (received_bytes() < limits::frame_header_bytes + arriving_->payload_bytes)
    return std::nullopt;
  const std::span payload{begin + limits::frame_header_bytes, arriving_->payload_bytes};
  if (const auto whole = verify_checksum(bytes, payload); !whole)
    return tl::unexpected<failure>{whole.error()};
  if (const auto ours = edge_.judge(*arriving_, received_ + 1); !ours)
    return tl::unexpected<failure>{ours.error()};
  ++received_;
  return frame_view{*std::exchange(arriving_, std::nullopt), payload};
}

/// False: the socket has nothing now. Errors: peer_gone.
result<bool> stream_lane::read_some() {
  const std::size_t whole = limits::frame_header_bytes + (arriving_ ? arriving_->payload_bytes : 0);
  if (received_bytes() == 0)
    in_begin_ = in_end_ = 0;
  if (in_begin_ + whole > in_bytes_ || in_end_ == in_bytes_) { // no room for the rest of it where it began
    std::memmove(in_.get(), in_.get() + in_begin_, received_bytes());
    in_end_ = received_bytes();
    in_begin_ = 0;
  }
  const std::size_t missing = whole - std::min(whole, received_bytes());
  const std::size_t wanted = std::min(in_bytes_ - in_end_, std::max(missing, read_ahead_bytes));
  const auto got = ::recv(socket_.get(), in_.get() + in_end_, wanted, MSG_DONTWAIT);
  if (got < 0 && would_block(errno))
    return false;
  if (got < 0)
    return tl::unexpected<failure>{peer_gone(std::strerror(errno))};
  if (got == 0)
    return tl::unexpected<failure>{peer_gone(received_bytes() == 0 ? "" : "in the middle of a frame")};
  in_end_ += static_cast<std::size_t>(got);
  return true;
}

/// Bytes that `peek` would make something of without the socket: the poll would not tell of them.
bool stream_lane::has_unchecked() const noexcept {
  return received_bytes() >= limits::frame_header_bytes + (arriving_ ? arriving_->payload_bytes : 0);
}

void stream_lane::pop() {
  in_begin_ += limits::frame_header_bytes + front_->payload.size();
  front_.reset();
}

// ---- waiting ----

bool stream_lane::arm(interest wanted) {
  if (closed_.load(std::memory_order_acquire) || (wanted.readable && (front_ || has_unchecked())))
    return false;
  flush();
  if (!wanted.writable)
    return true;
  const std::lock_guard lock{sending_};
  return refused_bytes_ != 0 && unsent_bytes() + refused_bytes_ > unsent_bytes_max_ &&
         !send_ended_.load(std::memory_order_acquire);
}

void stream_lane::disarm() {
  flush();
}

lane::wait_set stream_lane::waitables(interest wanted) const {
  // Unsent bytes are waited for whatever is wanted: the peer may be waiting for them.
  const int events = (wanted.readable ? POLLIN | POLLRDHUP : POLLRDHUP) |
                     (wanted.writable || has_unsent_.load(std::memory_order_acquire) ? POLLOUT : 0);
  wait_set set;
  set.fds[set.count++] = {socket_.get(), static_cast<short>(events), 0};
  return set;
}

std::size_t stream_lane::bytes_in_flight() const noexcept {
  int queued = 0;
  if (::ioctl(socket_.get(), SIOCOUTQ, &queued) != 0)
    queued = 0;
  const std::lock_guard lock{sending_};
  return unsent_bytes() + static_cast<std::size_t>(std::max(queued, 0));
}

void stream_lane::close() noexcept {
  if (!closed_.exchange(true, std::memory_order_acq_rel))
    ::shutdown(socket_.get(), SHUT_RDWR); // the descriptor itself lives as long as another thread may poll it
}

std::unique_ptr<lane> make_stream_lane(int fd, rank_id self, generation self_born, rank_id peer, generation peer_born,
                                       lane_options options) {
  return std::make_unique<stream_lane>(
      base::unique_fd{fd}, edge{.self = self, .self_born = self_born, .peer = peer, .peer_born = peer_born}, options);
}

} // namespace troupe::fabric
