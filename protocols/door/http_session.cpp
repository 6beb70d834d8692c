#include "protocols/door/http_session.hpp"

#include "protocols/door/door_states.hpp"

namespace troupe::protocols {

void http_session::on_begun(time_point now) {
  const keeps_invariants checked{*this};
  if (at_ != stage::idle)
    return;
  at_ = stage::header;
  deadline_ = now + bounds_.header_deadline;
}

http_session::effects http_session::on_head(const head& said, time_point now) {
  const keeps_invariants checked{*this};
  if (at_ != stage::header)
    return {};
  keeps_alive_ = said.keeps_alive;
  if (said.body_bytes.value_or(0) > bounds_.body_bytes_max && !said.is_refused)
    return on_bad_request(refusal::long_body);
  if (said.is_refused) // a stranger's body is not read
    keeps_alive_ = keeps_alive_ && !said.has_body;
  if (!said.has_body || said.is_refused) {
    at_ = stage::answering;
    return {dispatch{}};
  }
  at_ = stage::body;
  body_ = 0;
  deadline_ = now + bounds_.body_deadline;
  return said.waits_for_word ? effects{ask_for_body{}} : effects{};
}

http_session::effects http_session::on_body_bytes(std::uint64_t bytes) {
  const keeps_invariants checked{*this};
  if (at_ != stage::body)
    return {};
  if (bytes > bounds_.body_bytes_max - body_)
    return on_bad_request(refusal::long_body);
  const auto seconds_before = body_ / bounds_.body_bytes_a_second;
  body_ += bytes;
  deadline_ += std::chrono::seconds{static_cast<std::int64_t>(body_ / bounds_.body_bytes_a_second - seconds_before)};
  return {};
}

http_session::effects http_session::on_whole() {
  const keeps_invariants checked{*this};
  if (at_ != stage::body)
    return {};
  at_ = stage::answering;
  return {dispatch{}};
}

http_session::effects http_session::on_bad_request(refusal why) {
  const keeps_invariants checked{*this};
  if (!reads_request())
    return {};
  at_ = stage::refusing;
  keeps_alive_ = false;
  return {refuse{why}};
}

http_session::effects http_session::on_queued(std::uint64_t bytes, time_point now) {
  const keeps_invariants checked{*this};
  if (at_ == stage::closed || at_ == stage::lingering)
    return {};
  if (out_ == 0)
    write_deadline_ = now + bounds_.write_deadline;
  out_ += bytes;
  // The bound is for streams: a whole answer is queued at once, however long it is.
  return has_handler() && out_ > bounds_.out_bytes_max ? leave() : effects{};
}

http_session::effects http_session::on_written(std::uint64_t bytes, time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  if (at_ == stage::closed || at_ == stage::lingering)
    return out;
  TROUPE_ASSERT("K9", bytes <= out_);
  out_ -= bytes;
  write_deadline_ = now + bounds_.write_deadline;
  settle(now, out);
  return out;
}

http_session::effects http_session::on_answer_ended(bool keeps, time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  if (at_ != stage::answering && at_ != stage::refusing)
    return out;
  keeps_alive_ = keeps_alive_ && keeps;
  at_ = stage::sending;
  settle(now, out);
  return out;
}

void http_session::settle(time_point now, effects& out) {
  if (at_ != stage::sending || out_ > 0)
    return;
  if (keeps_alive_) {
    at_ = stage::idle;
    deadline_ = now + bounds_.idle_deadline;
    out.push_back(next_request{});
    return;
  }
  at_ = stage::lingering;
  deadline_ = now + bounds_.linger_deadline;
  out.push_back(end_sending{});
}

http_session::effects http_session::leave() {
  effects out;
  if (has_handler())
    out.push_back(cancel{});
  at_ = stage::closed;
  out_ = 0;
  out.push_back(close{});
  return out;
}

/// A peer that has closed only its sending side is treated like one that has left. HTTP clients do not half-close, and
/// no work may go on for a client that has left.
http_session::effects http_session::on_peer_closed(time_point) {
  const keeps_invariants checked{*this};
  return at_ == stage::closed ? effects{} : leave();
}

http_session::effects http_session::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  if (at_ == stage::closed)
    return {};
  if (out_ > 0 && now >= write_deadline_)
    return leave();
  // The handler, not this machine, bounds how long an answer may take.
  const bool waits = at_ == stage::idle || at_ == stage::header || at_ == stage::body || at_ == stage::lingering;
  if (!waits || now < deadline_)
    return {};
  if (at_ == stage::header)
    return on_bad_request(refusal::slow_header);
  if (at_ == stage::body)
    return on_bad_request(refusal::slow_body);
  return leave();
}

void http_session::show_states(state_view& view) const {
  view.show(http_session_table, {}, static_cast<std::size_t>(at_));
}

void http_session::check_invariants() const {
  TROUPE_ASSERT("K9", body_ <= bounds_.body_bytes_max || !reads_request());
  TROUPE_ASSERT("K9", at_ != stage::closed || out_ == 0);
  TROUPE_ASSERT("K7", at_ != stage::lingering || out_ == 0);
  TROUPE_ASSERT("K7", at_ != stage::idle || out_ == 0);
}

} // namespace troupe::protocols
