#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "runtime/embed/error.hpp"
#include "runtime/embed/event.hpp"
#include "runtime/embed/question.hpp"

namespace troupe::embed {

/// A connection to the front of a running job; many questions may be in flight on it.
/// It has no thread and keeps no reply: whoever asks also calls `next_event`, which sends what is still to be sent
/// while it reads, so a front that is slow to take pictures holds up neither side. The front ends a connection on which
/// a frame was begun and is not ended within some seconds.
/// This header, and those that it includes, name no type of the wire, of actors or of machines: a program that is
/// written against them does not change when those do.
/// Contract: A17, C15 (a question that cannot be sent whole ends the connection, never half of it).
/// Threads: one at a time, except `interrupt`.
class client {
public:
  using time_point = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;

  /// `socket`: the front's unix socket; `front`: its rank in the plan. Errors: gone (nobody listens there, with the
  /// path and errno in words), timeout, resources.
  static result<client> connect(const std::string& socket, std::uint32_t front, time_point deadline);
  ~client();
  client(client&&) noexcept;
  client& operator=(client&&) noexcept;

  /// Takes the question and sends what fits now; the rest goes out in `next_event`. Never blocks. Returns its tag, from
  /// 1. Errors: invalid (too many pictures, or too long a prompt), overloaded (`questions_waiting_max` are not sent
  /// yet: read events, then ask again; or the front has refused the connection), gone.
  result<std::uint64_t> ask(question what);

  /// Asks the front to end that question; how it ends, an event says: it may have ended meanwhile. What is not sent of
  /// its pictures is not sent any more. Never blocks; the order goes out like a question, after its `ask`.
  /// Contract: C15, K9.
  void cancel(std::uint64_t tag);

  /// Sends and reads until there is an event. Errors: timeout, cancelled; gone, bad_reply, and what the front refuses
  /// the connection with (overloaded: too many clients): after these the connection is over.
  result<event> next_event(time_point deadline);

  /// Makes this and every later `next_event` return `cancelled` instead of waiting. Any thread.
  void interrupt() noexcept;

  static constexpr std::size_t questions_waiting_max = 256;

private:
  class connection;
  explicit client(std::unique_ptr<connection> with);

  std::unique_ptr<connection> with_;
};

} // namespace troupe::embed
