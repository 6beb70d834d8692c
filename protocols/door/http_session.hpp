#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "protocols/invariant.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// Decides for one HTTP connection, request by request: how long a header and a body may take, how many bytes of an
/// answer may wait unsent, when the connection is closed, and when a request is cancelled.
///
/// Requests of a connection do not overlap: the next one is parsed once the answer has been sent. A peer that closes
/// while its request is answered has left, and the request is cancelled. A peer that does not read is disconnected:
/// once more than `out_bytes_max` of a stream wait, or once it has taken nothing for `write_deadline`. After a refusal
/// the peer may still be sending a body that nobody reads. To close the connection then would lose the refusal, since
/// TCP resets it. So the connection is closed for sending only, and what arrives is dropped for `linger_deadline`.
///
/// Contract: K7, K9. Threads: the door's. Errors: none; an event that its state does not expect changes nothing.
class http_session {
public:
  struct options {
    duration header_deadline = std::chrono::seconds{10}; ///< from the first byte of a request
    /// From the end of the header, and one second more for each `body_bytes_a_second` that have arrived: a long body
    /// may take long, a slow one may not.
    duration body_deadline = std::chrono::seconds{10};
    std::uint64_t body_bytes_a_second = 1u << 20;
    duration idle_deadline = std::chrono::seconds{75};  ///< between two requests
    duration write_deadline = std::chrono::seconds{10}; ///< in which the peer must take some of what waits
    duration linger_deadline = std::chrono::seconds{2}; ///< from the last byte sent to the close
    std::uint64_t body_bytes_max = 0;
    std::uint64_t out_bytes_max = 1u << 20; ///< of a stream, unsent
  };

  /// What a request's header says of its body and its connection.
  struct head {
    std::optional<std::uint64_t> body_bytes; ///< none: the body comes in chunks, or there is none
    bool has_body = false;
    bool keeps_alive = true;
    bool is_refused = false;     ///< whatever its body says: no key, no such path
    bool waits_for_word = false; ///< the peer sent Expect: 100-continue
    bool operator==(const head&) const = default;
  };

  /// Why a request is refused before it has a handler.
  enum class refusal : std::uint8_t { slow_header, slow_body, long_header, long_body, malformed };

  /// Tell the peer to send its body.
  struct ask_for_body {
    bool operator==(const ask_for_body&) const = default;
  };
  /// The request is complete: give it to its handler. `on_answer_ended` is due then.
  struct dispatch {
    bool operator==(const dispatch&) const = default;
  };
  /// Answer with this refusal. `on_answer_ended` is due then.
  struct refuse {
    refusal why = refusal::malformed;
    bool operator==(const refuse&) const = default;
  };
  /// Tell the handler that its client has left.
  struct cancel {
    bool operator==(const cancel&) const = default;
  };
  /// The answer has been sent: parse what has arrived of the next request.
  struct next_request {
    bool operator==(const next_request&) const = default;
  };
  /// Close the connection for sending, and drop what arrives.
  struct end_sending {
    bool operator==(const end_sending&) const = default;
  };
  struct close {
    bool operator==(const close&) const = default;
  };
  using effect = std::variant<ask_for_body, dispatch, refuse, cancel, next_request, end_sending, close>;
  using effects = std::vector<effect>;

  http_session(options bounds, time_point now) : bounds_(bounds), deadline_(now + bounds.idle_deadline) {}

  /// The first bytes of a request have arrived.
  void on_begun(time_point now);
  effects on_head(const head& said, time_point now);
  effects on_body_bytes(std::uint64_t bytes);
  effects on_whole();
  /// What arrived is no request, or one that is refused.
  effects on_bad_request(refusal why);
  /// Bytes of the answer wait to be sent.
  effects on_queued(std::uint64_t bytes, time_point now);
  effects on_written(std::uint64_t bytes, time_point now);
  /// The whole answer has been queued. `keeps`: the connection may take another request.
  effects on_answer_ended(bool keeps, time_point now);
  effects on_peer_closed(time_point now);
  effects on_tick(time_point now);

  bool is_open() const noexcept { return at_ != stage::closed; }
  /// What arrives belongs to the request that is read; otherwise it waits, or is dropped.
  bool reads_request() const noexcept { return at_ == stage::idle || at_ == stage::header || at_ == stage::body; }
  /// What arrives is dropped.
  bool drops_input() const noexcept { return at_ == stage::lingering; }
  bool is_idle() const noexcept { return at_ == stage::idle; }

private:
  friend class keeps_invariants<http_session>;
  void check_invariants() const;
  void show_states(state_view& view) const;

  enum class stage : std::uint8_t {
    idle,      ///< between requests
    header,    ///< a request's header is arriving
    body,      ///< a request's body is arriving
    answering, ///< the request is with its handler
    refusing,  ///< there is no handler; the refusal is being queued
    sending,   ///< the whole answer is queued
    lingering, ///< closed for sending; what arrives is dropped
    closed,
  };
  bool has_handler() const noexcept { return at_ == stage::answering; }
  effects leave();
  void settle(time_point now, effects& out);

  options bounds_;
  stage at_ = stage::idle;
  time_point deadline_;       ///< of the stage
  time_point write_deadline_; ///< while bytes wait to be sent
  std::uint64_t body_ = 0;    ///< bytes of the body that have arrived
  std::uint64_t out_ = 0;     ///< bytes that wait to be sent
  bool keeps_alive_ = true;
};

} // namespace troupe::protocols
