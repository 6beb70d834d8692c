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
#include <deque>
#include <optional>
#include <utility>

#include "fabric/lanes/connect.hpp"
#include "fabric/socket_address.hpp"
#include "protocols/limits.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/wire/codec.hpp"
#include "protocols/wire/decode_frame.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/doorbell.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::embed {

using protocols::client_rank;
using protocols::failure;
using protocols::fault;
namespace limits = protocols::limits;
namespace wire = protocols; ///< its messages have the names of the values here

static_assert(prompt_bytes_max == limits::picture_chunk_bytes, "a prompt stands in one frame");
static_assert(pictures_max == limits::pictures_per_request_max);

namespace {

/// Clients are not restarted under one identity, and the front speaks to them whatever its own generation is.
constexpr protocols::generation client_born{1};

reason reason_of(fault code) noexcept {
  switch (code) {
  case fault::invalid_request:
  case fault::context_exceeded:
  case fault::bad_picture:
    return reason::invalid;
  case fault::queue_full:
    return reason::overloaded;
  case fault::shutting_down:
    return reason::shutting_down;
  case fault::timeout:
    return reason::timeout;
  case fault::cancelled:
    return reason::cancelled;
  case fault::peer_gone:
    return reason::gone;
  case fault::no_memory:
    return reason::resources;
  case fault::bad_magic:
  case fault::unknown_version:
  case fault::unknown_type:
  case fault::unknown_flag:
  case fault::frame_too_long:
  case fault::bad_checksum:
  case fault::short_payload:
  case fault::bad_value:
  case fault::wrong_sequence:
  case fault::wrong_rank:
  case fault::stale_generation:
  case fault::stale_epoch:
  case fault::wrong_job:
    return reason::bad_reply;
  case fault::lane_full:
  case fault::not_admitted:
  case fault::stale_grant:
  case fault::out_of_bounds:
  case fault::transfer_failed:
  case fault::wrong_group:
  case fault::plan_mismatch:
  case fault::not_a_member:
  case fault::parity_mismatch:
  case fault::cell_gone:
  case fault::illegal_transition:
  case fault::span_mismatch:
  case fault::executor_failed:
  case fault::config_invalid:
  case fault::prompt_mismatch:
  case fault::replica_mismatch:
  case fault::not_finite:
    return reason::other;
  }
  return reason::other;
}

error error_of(const failure& problem) {
  return {reason_of(problem.code), problem.what, protocols::to_string(problem)};
}
template <class T>
result<T> public_form(protocols::result<T> outcome) {
  if (!outcome)
    return tl::unexpected(error_of(outcome.error()));
  return *std::move(outcome);
}

protocols::sampling_options wire_form(const sampling& from) {
  protocols::sampling_options out{.temperature = from.temperature, .top_p = from.top_p, .seed = from.seed};
  auto& rules = out.rules;
  rules.top_k = from.top_k;
  rules.min_p = from.min_p;
  rules.presence_penalty = from.presence_penalty;
  rules.frequency_penalty = from.frequency_penalty;
  rules.repetition_penalty = from.repetition_penalty;
  for (const auto& each : from.bias)
    rules.bias.push_back({.id = each.id, .value = each.value});
  rules.min_tokens = from.min_tokens;
  rules.stop_ids = from.stop_ids;
  rules.ignore_eos = from.ignore_eos;
  rules.logprobs = from.logprobs;
  rules.top_logprobs = from.top_logprobs;
  return out;
}

ending ending_of(protocols::finish_reason how) noexcept {
  switch (how) {
  case protocols::finish_reason::stop:
    return ending::stop;
  case protocols::finish_reason::length:
    return ending::length;
  case protocols::finish_reason::cancelled:
    return ending::cancelled;
  case protocols::finish_reason::none:
  case protocols::finish_reason::failed:
    return ending::failed;
  }
  return ending::failed;
}

event public_form(wire::accepted said) {
  return accepted{
      .tag = said.tag, .request = said.request.value, .prompt_tokens = said.prompt_tokens, .seed = said.seed};
}
event public_form(wire::answer said) {
  token out{.tag = said.tag, .index = said.index, .id = said.id, .text = std::move(said.text), .logprobs = {}};
  for (auto& each : said.logprobs)
    out.logprobs.push_back({.id = each.id, .value = each.value, .bytes = std::move(each.bytes)});
  return out;
}
event public_form(wire::finished said) {
  finished out{.tag = said.tag,
               .how = ending_of(said.reason),
               .message = std::move(said.message),
               .to_first_token = std::chrono::nanoseconds{said.time_to_first_token_ns},
               .total = std::chrono::nanoseconds{said.total_ns},
               .timings = {},
               .text = std::move(said.text)};
  for (const auto& each : said.phases)
    out.timings.push_back({.part = std::string{name(each.part)},
                           .began = std::chrono::nanoseconds{each.began_ns},
                           .ended = std::chrono::nanoseconds{each.ended_ns}});
  return out;
}
event public_form(wire::refused said) {
  const auto code = protocols::fault_from(said.code);
  auto why = code ? error_of({*code, said.message}) : error{reason::other, said.message, said.message};
  return refused{.tag = said.tag, .why = std::move(why)};
}

template <class Message>
protocols::result<event> decode(const protocols::frame_view& frame) {
  Message message;
  if (const auto read = decode_frame(frame, message); !read)
    return tl::unexpected(read.error());
  return public_form(std::move(message));
}

/// A frame of any other type has no business on this connection.
protocols::result<event> decode_event(const protocols::frame_view& frame) {
  if (frame.header.type == wire::accepted::type)
    return decode<wire::accepted>(frame);
  if (frame.header.type == wire::answer::type)
    return decode<wire::answer>(frame);
  if (frame.header.type == wire::finished::type)
    return decode<wire::finished>(frame);
  if (frame.header.type == wire::refused::type)
    return decode<wire::refused>(frame);
  return protocols::fail(fault::unknown_type, "the front sent a frame that is no reply");
}

timeval as_timeval(std::chrono::nanoseconds span) {
  const auto micros = std::max<std::int64_t>(1, std::chrono::duration_cast<std::chrono::microseconds>(span).count());
  return {.tv_sec = micros / 1'000'000, .tv_usec = micros % 1'000'000};
}

} // namespace

class client::connection {
public:
  connection(std::unique_ptr<fabric::lane> lane, protocols::rank_id front, base::unique_fd wake)
      : lane_(std::move(lane)), front_(front), wake_(std::move(wake)) {}

  protocols::result<std::uint64_t> ask(question what);
  void cancel(std::uint64_t tag) { cancels_.push_back(tag); }
  protocols::result<event> next_event(time_point deadline);
  void interrupt() noexcept;

private:
  /// A question on its way out: first the `ask`, then its pictures piece by piece.
  struct outgoing {
    std::uint64_t tag = 0;
    question what;
    bool announced = false;
    std::uint32_t picture = 0;
    std::size_t offset = 0;
  };

  /// True when the lane has all of it; false when it is full.
  protocols::result<bool> send_what_fits();
  protocols::result<bool> send_questions();
  /// Of questions that were announced.
  protocols::result<bool> send_cancels();
  template <class Message>
  protocols::result<bool> try_send(const Message& message);
  protocols::result<std::optional<event>> take_event();
  /// What the front said of the connection before it closed it, if it did.
  std::optional<failure> refusal(const protocols::frame_view& frame) const;
  failure cause_of_end(const failure& seen);
  /// Sleeps until the lane moves. Errors: timeout, cancelled.
  protocols::result<void> wait(bool writable, time_point deadline);

  std::unique_ptr<fabric::lane> lane_;
  protocols::rank_id front_;
  base::unique_fd wake_; ///< eventfd; readable once interrupted
  std::deque<outgoing> waiting_;
  std::deque<std::uint64_t> cancels_;
  std::uint64_t last_tag_ = 0;
  std::vector<std::byte> payload_; ///< reused from frame to frame
};

client::client(std::unique_ptr<connection> with) : with_(std::move(with)) {}
client::~client() = default;
client::client(client&&) noexcept = default;
client& client::operator=(client&&) noexcept = default;

result<std::uint64_t> client::ask(question what) {
  return public_form(with_->ask(std::move(what)));
}
void client::cancel(std::uint64_t tag) {
  with_->cancel(tag);
}
result<event> client::next_event(time_point deadline) {
  return public_form(with_->next_event(deadline));
}
void client::interrupt() noexcept {
  with_->interrupt();
}

result<client> client::connect(const std::string& socket, std::uint32_t front, time_point deadline) {
  const auto failed = [](fault code, const std::string& what) { return tl::unexpected(error_of({code, what})); };
  const auto address = fabric::unix_address(socket);
  if (!address)
    return failed(fault::peer_gone, address.error().what);
  base::unique_fd stream{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  base::unique_fd wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!stream || !wake)
    return failed(fault::no_memory, std::string{"no descriptor for a connection: "} + std::strerror(errno));
  // A unix socket whose backlog is full cannot be polled for; its send timeout also bounds the connect.
  const timeval bound = as_timeval(deadline - base::now());
  ::setsockopt(stream.get(), SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
  if (::connect(stream.get(), address->get(), address->size) != 0) {
    if (errno == EAGAIN || errno == EINPROGRESS)
      return failed(fault::timeout, socket + ": the front does not take connections");
    return failed(fault::peer_gone, socket + ": " + std::strerror(errno));
  }
  const protocols::rank_id peer{front};
  auto lane = fabric::make_stream_lane(stream.release(), client_rank, client_born, peer, client_born, {});
  return client{std::make_unique<connection>(std::move(lane), peer, std::move(wake))};
}

protocols::result<std::uint64_t> client::connection::ask(question what) {
  if (what.pictures.size() > pictures_max)
    return protocols::fail(fault::invalid_request, std::to_string(what.pictures.size()) + " pictures; at most " +
                                                       std::to_string(pictures_max) + " a request");
  if (what.prompt.size() > prompt_bytes_max)
    return protocols::fail(fault::invalid_request, "a prompt of " + std::to_string(what.prompt.size()) +
                                                       " bytes; at most " + std::to_string(prompt_bytes_max));
  if (waiting_.size() >= questions_waiting_max)
    return protocols::fail(fault::queue_full, std::to_string(questions_waiting_max) + " questions are not sent yet");
  waiting_.push_back({.tag = ++last_tag_, .what = std::move(what), .announced = false, .picture = 0, .offset = 0});
  if (const auto sent = send_what_fits(); !sent)
    return tl::unexpected(cause_of_end(sent.error()));
  return last_tag_;
}

protocols::result<event> client::connection::next_event(time_point deadline) {
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

void client::connection::interrupt() noexcept {
  base::ring(wake_);
}

protocols::result<bool> client::connection::send_what_fits() {
  for (const auto part :
       {&client::connection::send_cancels, &client::connection::send_questions, &client::connection::send_cancels})
    if (const auto sent = (this->*part)(); !sent || !*sent)
      return sent;
  lane_->flush(); // what the socket does not take, the lane waits for by itself
  return true;
}

protocols::result<bool> client::connection::send_cancels() {
  for (auto next = cancels_.begin(); next != cancels_.end();) {
    const auto open = std::ranges::find(waiting_, *next, &outgoing::tag);
    if (open != waiting_.end() && !open->announced) {
      ++next;
      continue;
    }
    const auto sent = try_send(wire::withdraw{*next});
    if (!sent || !*sent)
      return sent;
    if (open != waiting_.end())
      waiting_.erase(open);
    next = cancels_.erase(next);
  }
  return true;
}

protocols::result<bool> client::connection::send_questions() {
  while (!waiting_.empty()) {
    outgoing& next = waiting_.front();
    if (!next.announced) {
      wire::ask announcement{.tag = next.tag,
                             .prompt = next.what.prompt,
                             .picture_names = {},
                             .picture_bytes = {},
                             .max_tokens = next.what.max_tokens,
                             .sampling = wire_form(next.what.sampling),
                             .draws_seed = next.what.draws_seed,
                             .timeout_ms = next.what.timeout_ms,
                             .priority = next.what.priority,
                             .trace = {.name = next.what.name}};
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
        const auto sent = try_send(wire::picture_chunk{
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
protocols::result<bool> client::connection::try_send(const Message& message) {
  payload_.clear();
  encode_payload(message, payload_);
  protocols::frame_header header;
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

protocols::result<std::optional<event>> client::connection::take_event() {
  const auto frame = lane_->peek();
  if (!frame)
    return tl::unexpected(frame.error());
  if (!*frame)
    return std::nullopt;
  auto decoded = decode_event(**frame);
  const auto no = refusal(**frame);
  lane_->pop();
  if (!decoded || no) {
    lane_->close();
    return tl::unexpected(no.value_or(decoded ? failure{} : decoded.error()));
  }
  if (const auto* const ended = std::get_if<refused>(&*decoded)) // the rest of its pictures would be thrown away there
    std::erase_if(waiting_, [ended](const outgoing& each) { return each.tag == ended->tag; });
  return std::move(*decoded);
}

std::optional<failure> client::connection::refusal(const protocols::frame_view& frame) const {
  wire::refused said;
  if (frame.header.type != wire::refused::type || !decode_frame(frame, said) || said.tag != 0)
    return std::nullopt;
  return failure{protocols::fault_from(said.code).value_or(fault::peer_gone), said.message};
}

failure client::connection::cause_of_end(const failure& seen) {
  if (seen.code != fault::peer_gone)
    return seen;
  const auto frame = lane_->peek();
  return frame && *frame ? refusal(**frame).value_or(seen) : seen;
}

protocols::result<void> client::connection::wait(bool writable, time_point deadline) {
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
    return protocols::fail(fault::cancelled, "interrupted");
  if (ready == 0 && base::now() >= deadline)
    return protocols::fail(fault::timeout, "no reply from the front");
  return {};
}

} // namespace troupe::embed
