#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "protocols/invariant.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// Follows one connection of the door, request by request: how long a header and a body may take, what an answer may
/// leave unsent, when the connection is closed, and when whoever works for its request is told that nobody waits.
///
/// A request has its connection to itself: the next one is looked at once the answer has been sent. A peer that closes
/// while a request is answered has left, and the request is cancelled. One that does not read is let go, when more than
/// `out_bytes_max` waits for it or nothing has been taken for `write_deadline`. After a refusal the peer may still be
/// sending what nobody reads; the connection is closed for sending and what comes is dropped for `linger_deadline`, or
/// the refusal would be lost with it.
///
/// Contract: K7, K9. Threads: the door's.
class http_session {
public:
  struct options {
    duration header_deadline = std::chrono::seconds{10}; ///< from the first byte of a request
    /// From the end of the header. Each `body_bytes_a_second` that have come give a second more, so that a long body
    /// may take its time and a slow one may not.
    duration body_deadline = std::chrono::seconds{10};
    std::uint64_t body_bytes_a_second = 1u << 20;
    duration idle_deadline = std::chrono::seconds{75}; ///< between two requests
    duration write_deadline = std::chrono::seconds{10};
    duration linger_deadline = std::chrono::seconds{2};
    std::uint64_t body_bytes_max = 0;
    std::uint64_t out_bytes_max = 1u << 20;
  };

  /// What a request's header says of what follows.
  struct head {
    std::optional<std::uint64_t> body_bytes; ///< none: in chunks, or nothing
    bool has_body = false;
    bool keeps_alive = true;
    bool waits_for_word = false; ///< Expect: 100-continue
    bool operator==(const head&) const = default;
  };

  enum class refusal : std::uint8_t { slow_header, slow_body, long_header, long_body, malformed };

  /// Tell the peer to send its body.
  struct ask_for_body {
    bool operator==(const ask_for_body&) const = default;
  };
  /// The request is whole; `on_answer_ended` follows.
  struct dispatch {
    bool operator==(const dispatch&) const = default;
  };
  /// Answer so; `on_answer_ended` follows.
  struct refuse {
    refusal why = refusal::malformed;
    bool operator==(const refuse&) const = default;
  };
  /// Nobody waits for the answer of the request that was dispatched.
  struct cancel {
    bool operator==(const cancel&) const = default;
  };
  /// The answer has been sent; what has come of a next request may be looked at.
  struct next_request {
    bool operator==(const next_request&) const = default;
  };
  /// Nothing more will be sent. What comes is dropped.
  struct end_sending {
    bool operator==(const end_sending&) const = default;
  };
  struct close {
    bool operator==(const close&) const = default;
  };
  using effect = std::variant<ask_for_body, dispatch, refuse, cancel, next_request, end_sending, close>;
  using effects = std::vector<effect>;

  http_session(options bounds, time_point now) : bounds_(bounds), deadline_(now + bounds.idle_deadline) {}

  /// The first bytes of a request are there.
  void on_begun(time_point now);
  effects on_head(const head& said, time_point now);
  effects on_body_bytes(std::uint64_t bytes);
  effects on_whole();
  /// What came is no request, or one that is not taken.
  effects on_bad_request(refusal why);
  /// Bytes of the answer wait to be sent.
  effects on_queued(std::uint64_t bytes, time_point now);
  effects on_written(std::uint64_t bytes, time_point now);
  /// The whole answer has been queued. `keeps`: the connection may take another request.
  effects on_answer_ended(bool keeps, time_point now);
  effects on_peer_closed(time_point now);
  effects on_tick(time_point now);

  bool is_open() const noexcept { return at_ != stage::closed; }
  /// Bytes are a request's; otherwise they wait, or are dropped.
  bool reads_request() const noexcept { return at_ == stage::idle || at_ == stage::header || at_ == stage::body; }
  bool drops_input() const noexcept { return at_ == stage::lingering; }
  bool is_idle() const noexcept { return at_ == stage::idle; }

private:
  friend class keeps_invariants<http_session>;
  void check_invariants() const;
  void show_states(state_view& view) const;

  enum class stage : std::uint8_t {
    idle,      ///< between requests
    header,    ///< of a request is coming
    body,      ///< is coming
    answering, ///< the request is with its handler
    refusing,  ///< there is no handler; an answer is being queued
    sending,   ///< the whole answer is queued
    lingering, ///< nothing is sent any more
    closed,
  };
  bool has_handler() const noexcept { return at_ == stage::answering; }
  effects leave();
  void settle(time_point now, effects& out);

  options bounds_;
  stage at_ = stage::idle;
  time_point deadline_;       ///< of the stage
  time_point write_deadline_; ///< while bytes wait
  std::uint64_t body_ = 0;    ///< bytes of it that have come
  std::uint64_t out_ = 0;     ///< bytes that wait to be sent
  bool keeps_alive_ = true;
};

} // namespace troupe::protocols
