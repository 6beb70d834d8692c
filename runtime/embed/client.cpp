// Decides outside protocols: the client's side, outside of the job

#include "runtime/embed/client.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "fabric/lanes/connect.hpp"
#include "fabric/socket_address.hpp"
#include "protocols/limits.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::embed {

using namespace protocols;

namespace {

/// Clients are not restarted under one identity, and the front speaks to them whatever its own generation is.
constexpr generation client_born{1};

template <class Message>
result<event> decode(const frame_view& frame) {
  Message message;
  if (const auto read = decode_payload(frame.payload, message); !read)
    return tl::unexpected(read.error());
  return event{std::move(message)};
}

/// A frame of any other type has no business on this connection.
result<event> decode_event(const frame_view& frame) {
  if (frame.header.type == serve_type::accepted)
    return decode<accepted>(frame);
  if (frame.header.type == serve_type::answer)
    return decode<answer>(frame);
  if (frame.header.type == serve_type::finished)
    return decode<finished>(frame);
  if (frame.header.type == serve_type::refused)
    return decode<refused>(frame);
  return fail(fault::unknown_type, "the front sent a frame that is no reply");
}

timeval as_timeval(duration span) {
  const auto micros = std::max<std::int64_t>(1, std::chrono::duration_cast<std::chrono::microseconds>(span).count());
  return {.tv_sec = micros / 1'000'000, .tv_usec = micros % 1'000'000};
}

} // namespace

client::client(std::unique_ptr<fabric::lane> lane, rank_id front, base::unique_fd wake)
    : lane_(std::move(lane)), front_(front), wake_(std::move(wake)) {}

result<client> client::connect(const std::string& socket, rank_id front, time_point deadline) {
  const auto address = fabric::unix_address(socket);
  if (!address)
    return fail(fault::peer_gone, address.error().what);
  base::unique_fd stream{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  base::unique_fd wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!stream || !wake)
    return fail(fault::no_memory, std::string{"no descriptor for a connection: "} + std::strerror(errno));
  // A unix socket whose backlog is full cannot be polled for; its send timeout also bounds the connect.
  const timeval bound = as_timeval(deadline - base::now());
  ::setsockopt(stream.get(), SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
  if (::connect(stream.get(), address->get(), address->size) != 0) {
    if (errno == EAGAIN || errno == EINPROGRESS)
      return fail(fault::timeout, socket + ": the front does not take connections");
    return fail(fault::peer_gone, socket + ": " + std::strerror(errno));
  }
  auto lane = fabric::make_stream_lane(stream.release(), client_rank, client_born, front, client_born, {});
  return client{std::move(lane), front, std::move(wake)};
}

result<std::uint64_t> client::ask(question what) {
  if (what.pictures.size() > limits::pictures_per_request_max)
    return fail(fault::invalid_request, std::to_string(what.pictures.size()) + " pictures; at most " +
                                            std::to_string(limits::pictures_per_request_max) + " a request");
  if (what.prompt.size() > prompt_bytes_max)
    return fail(fault::invalid_request, "a prompt of " + std::to_string(what.prompt.size()) + " bytes; at most " +
                                            std::to_string(prompt_bytes_max));
  if (waiting_.size() >= questions_waiting_max)
    return fail(fault::queue_full, std::to_string(questions_waiting_max) + " questions are not sent yet");
  waiting_.push_back({.tag = ++last_tag_, .what = std::move(what), .announced = false, .picture = 0, .offset = 0});
  if (const auto sent = send_what_fits(); !sent)
    return tl::unexpected(cause_of_end(sent.error()));
  return last_tag_;
}

result<event> client::next_event(time_point deadline) {
  while (true) {
    const auto fits = send_what_fits();
    if (!fits && fits.error().code != fault::peer_gone)
      return tl::unexpected(fits.error());
    auto taken = take_event(); // also after the peer has gone: what it said before that is delivered first
    if (!taken)
      return tl::unexpected(taken.error());
    if (*taken)
      return std::move(**taken);
    if (!fits)
      return tl::unexpected(fits.error());
    if (const auto woken = wait(!*fits, deadline); !woken)
      return tl::unexpected(woken.error());
  }
}

void client::interrupt() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

result<bool> client::send_what_fits() {
  for (const auto part : {&client::send_cancels, &client::send_questions, &client::send_cancels})
    if (const auto sent = (this->*part)(); !sent || !*sent)
      return sent;
  lane_->flush(); // what the socket does not take, the lane waits for by itself
  return true;
}

result<bool> client::send_cancels() {
  for (auto next = cancels_.begin(); next != cancels_.end();) {
    const auto open = std::ranges::find(waiting_, *next, &outgoing::tag);
    if (open != waiting_.end() && !open->announced) {
      ++next;
      continue;
    }
    const auto sent = try_send(withdraw{*next});
    if (!sent || !*sent)
      return sent;
    if (open != waiting_.end())
      waiting_.erase(open);
    next = cancels_.erase(next);
  }
  return true;
}

result<bool> client::send_questions() {
  while (!waiting_.empty()) {
    outgoing& next = waiting_.front();
    if (!next.announced) {
      protocols::ask announcement{.tag = next.tag,
                                  .prompt = next.what.prompt,
                                  .picture_names = {},
                                  .picture_bytes = {},
                                  .max_tokens = next.what.max_tokens,
                                  .sampling = next.what.sampling};
      for (const auto& picture : next.what.pictures) {
        announcement.picture_names.push_back(picture.name);
        announcement.picture_bytes.push_back(picture.bytes.size());
      }
      const auto sent = try_send(announcement);
      if (!sent || !*sent)
        return sent;
      next.announced = true;
      // One that was given up meanwhile ends here: a front that reads as fast as this writes would get its pictures.
      if (const auto told = send_cancels(); !told || !*told)
        return told;
      continue;
    }
    while (next.picture < next.what.pictures.size()) {
      auto& bytes = next.what.pictures[next.picture].bytes;
      const std::size_t length = std::min(limits::picture_chunk_bytes, bytes.size() - next.offset);
      if (length > 0) {
        const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(next.offset);
        const auto sent = try_send(picture_chunk{
            .tag = next.tag, .picture = next.picture, .bytes = {begin, begin + static_cast<std::ptrdiff_t>(length)}});
        if (!sent || !*sent)
          return sent;
        next.offset += length;
      }
      if (next.offset == bytes.size()) {
        bytes = {}; // sent: the file need not be held until the answer is there
        next.offset = 0;
        ++next.picture;
      }
    }
    waiting_.pop_front();
  }
  return true;
}

template <class Message>
result<bool> client::try_send(const Message& message) {
  payload_.clear();
  encode_payload(message, payload_);
  frame_header header;
  header.type = Message::type;
  header.payload_bytes = static_cast<std::uint32_t>(payload_.size());
  header.source = client_rank;
  header.source_generation = client_born;
  header.destination = front_;
  header.destination_generation = client_born;
  const auto sent = lane_->try_send(header, payload_);
  if (sent)
    return true;
  if (sent.error().code == fault::lane_full)
    return false;
  return tl::unexpected(sent.error());
}

result<std::optional<event>> client::take_event() {
  const auto frame = lane_->peek();
  if (!frame)
    return tl::unexpected(frame.error());
  if (!*frame)
    return std::nullopt;
  auto decoded = decode_event(**frame);
  lane_->pop();
  if (!decoded) {
    lane_->close();
    return tl::unexpected(decoded.error());
  }
  if (const auto* no = std::get_if<refused>(&*decoded); no != nullptr && no->tag == 0) {
    lane_->close();
    return fail(fault_from(no->code).value_or(fault::peer_gone), no->message);
  }
  if (const auto* no = std::get_if<refused>(&*decoded)) // the rest of its pictures would only be thrown away there
    std::erase_if(waiting_, [no](const outgoing& each) { return each.tag == no->tag; });
  return std::move(*decoded);
}

failure client::cause_of_end(const failure& seen) {
  if (seen.code != fault::peer_gone)
    return seen;
  const auto frame = lane_->peek();
  if (!frame || !*frame || (*frame)->header.type != refused::type)
    return seen;
  refused said;
  const bool of_connection = decode_payload((*frame)->payload, said) && said.tag == 0;
  return of_connection ? failure{fault_from(said.code).value_or(fault::peer_gone), said.message} : seen;
}

result<void> client::wait(bool writable, time_point deadline) {
  const fabric::lane::interest wanted{.readable = true, .writable = writable};
  if (!lane_->arm(wanted))
    return {};
  const auto armed = lane_->waitables(wanted);
  std::array<pollfd, 3> fds{};
  std::copy_n(armed.fds.begin(), armed.count, fds.begin());
  fds[armed.count] = {.fd = wake_.get(), .events = POLLIN, .revents = 0};

  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - base::now()).count();
  const int ready = ::poll(fds.data(), armed.count + 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000)));
  lane_->disarm();
  if (ready > 0 && fds[armed.count].revents != 0)
    return fail(fault::cancelled, "interrupted");
  if (ready == 0 && base::now() >= deadline)
    return fail(fault::timeout, "no reply from the front");
  return {};
}

} // namespace troupe::embed
