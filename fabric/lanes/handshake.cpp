// Decides outside protocols: the wait itself, on a socket

#include "fabric/lanes/handshake.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <initializer_list>

#include "runtime/base/clock.hpp"

namespace troupe::fabric {

using namespace protocols;

namespace {

bool would_block(int error) noexcept {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

tl::unexpected<failure> gone(int error) {
  return fail(fault::peer_gone, error == 0 ? "the peer closed the connection" : std::strerror(error));
}

/// What a proof is over, in one order.
std::vector<std::byte> words_of(message_type type, const edge& sender, std::span<const std::byte> nonce,
                                std::initializer_list<std::uint32_t> more) {
  std::vector<std::byte> out;
  const auto add = [&](std::uint32_t word) {
    for (int shift = 0; shift < 32; shift += 8)
      out.push_back(static_cast<std::byte>(word >> shift));
  };
  for (const std::uint32_t word :
       {static_cast<std::uint32_t>(type), sender.self.value, sender.self_born.value, sender.peer.value,
        sender.peer_born.value, static_cast<std::uint32_t>(sender.epoch.value),
        static_cast<std::uint32_t>(sender.epoch.value >> 32)})
    add(word);
  for (const auto word : more)
    add(word);
  out.insert(out.end(), nonce.begin(), nonce.end());
  return out;
}

/// Room for descriptors beside a message.
struct control_room {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(handshake_descriptors_max * sizeof(int))> bytes{};
};

} // namespace

edge sender_of(const frame_header& header) noexcept {
  return {.self = header.source,
          .self_born = header.source_generation,
          .peer = header.destination,
          .peer_born = header.destination_generation,
          .epoch = header.epoch};
}

proof proof_of_hello(const std::array<std::byte, 32>& job_token, const edge& sender, const hello& said) {
  return prove(job_token, words_of(message_type::hello, sender, said.nonce,
                                   {static_cast<std::uint32_t>(said.channel), said.group.value}));
}

proof proof_of_welcome(const std::array<std::byte, 32>& job_token, const edge& sender,
                       const std::array<std::byte, 16>& nonce) {
  return prove(job_token, words_of(message_type::welcome, sender, nonce, {}));
}

result<void> wait_socket(int socket, short events, time_point deadline) {
  pollfd one{socket, events, 0};
  for (auto now = base::now(); now < deadline; now = base::now()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
    if (::poll(&one, 1, static_cast<int>(std::min<long>(left, 60'000))) > 0)
      return {};
  }
  return fail(fault::timeout);
}

result<void> send_handshake(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors,
                            time_point deadline) {
  while (!bytes.empty()) {
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    control_room room;
    if (!descriptors.empty()) {
      message.msg_control = room.bytes.data();
      message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
      cmsghdr* control = CMSG_FIRSTHDR(&message);
      control->cmsg_level = SOL_SOCKET;
      control->cmsg_type = SCM_RIGHTS;
      control->cmsg_len = CMSG_LEN(descriptors.size_bytes());
      std::memcpy(CMSG_DATA(control), descriptors.data(), descriptors.size_bytes());
    }
    const auto sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
      descriptors = {}; // they went with the first byte
    } else if (!would_block(errno)) {
      return gone(errno);
    } else if (auto writable = wait_socket(socket, POLLOUT, deadline); !writable) {
      return writable;
    }
  }
  return {};
}

result<std::optional<frame_view>> handshake_reader::step(int socket) {
  while (!header_ || filled_ < bytes_.size()) { // each turn takes bytes of one bounded frame
    if (filled_ < bytes_.size()) {
      const auto more = read(socket);
      if (!more)
        return tl::unexpected<failure>{more.error()};
      if (!*more)
        return std::nullopt;
      if (!may_begin_frame(std::span{bytes_}.first(filled_)))
        return fail(fault::bad_magic);
    } else {
      const auto header =
          decode_header(std::span{bytes_}.first<limits::frame_header_bytes>(), limits::unauthenticated_frame_bytes_max);
      if (!header)
        return tl::unexpected<failure>{header.error()};
      header_ = *header;
      bytes_.resize(limits::frame_header_bytes + header_->payload_bytes);
    }
  }
  const auto payload = std::span{bytes_}.subspan(limits::frame_header_bytes);
  if (const auto whole = verify_checksum(std::span{bytes_}.first<limits::frame_header_bytes>(), payload); !whole)
    return tl::unexpected<failure>{whole.error()};
  return frame_view{*header_, payload};
}

/// False: nothing there now.
result<bool> handshake_reader::read(int socket) {
  iovec part{bytes_.data() + filled_, bytes_.size() - filled_};
  control_room room;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = room.bytes.data();
  message.msg_controllen = room.bytes.size();
  const auto got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && would_block(errno))
    return false;
  if (got <= 0)
    return gone(got < 0 ? errno : 0);

  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr; control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
      continue;
    const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof fd, sizeof fd);
      descriptors_.emplace_back(fd);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0 && descriptors_.size() < handshake_descriptors_max)
    return fail(fault::no_memory, "this process has too many open files (ulimit -n) to take a peer's");
  if ((message.msg_flags & MSG_CTRUNC) != 0 || descriptors_.size() > handshake_descriptors_max)
    return fail(fault::bad_value, "more descriptors than a lane has");
  filled_ += static_cast<std::size_t>(got);
  return true;
}

} // namespace troupe::fabric
