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
/// It has no thread and stores no events: the caller of `ask` also calls `next_event`, which sends what is still to be
/// sent while it reads, so a front that takes pictures slowly blocks neither side. A caller must not pause for seconds
/// between these calls while a question is not sent yet: the front closes a connection whose frame stays incomplete.
/// This header, and those that it includes, name no type of the wire, of actors or of machines: a program that uses
/// them does not change when those do. Contract: A17, C15 (a question that cannot be sent whole ends the connection;
/// half of it is never taken). Threads: one at a time; `interrupt`: any.
class client {
public:
  using time_point = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;

  /// `socket`: the path of the front's unix socket; `front`: its rank in the plan. Errors: gone (nobody listens there;
  /// `words` has the path and the errno), timeout, resources.
  static result<client> connect(const std::string& socket, std::uint32_t front, time_point deadline);
  ~client();
  client(client&&) noexcept;
  client& operator=(client&&) noexcept;

  /// Queues the question, and sends what the socket takes now; `next_event` sends the rest. Never blocks. Returns the
  /// question's tag, from 1. Errors: invalid (too many pictures, or too long a prompt), overloaded (either
  /// `questions_waiting_max` questions are not sent yet: read events, then ask again; or the front has refused the
  /// connection), gone.
  result<std::uint64_t> ask(question what);

  /// Asks the front to cancel the question with this tag. Its `finished` event says how it ended, since it may have
  /// ended before the request arrived. Pictures that are not sent yet are dropped. Never blocks: `next_event` sends
  /// what is left. Contract: C15, K9.
  void cancel(std::uint64_t tag);

  /// Sends and reads until there is an event. Errors that leave the connection usable: timeout, cancelled. Errors that
  /// end it: gone, bad_reply, and the front's reason to refuse it (overloaded: too many clients).
  result<event> next_event(time_point deadline);

  /// Makes a `next_event` that waits now, and every later one, return `cancelled` instead of waiting. Threads: any.
  void interrupt() noexcept;

  /// The most questions that are not sent yet.
  static constexpr std::size_t questions_waiting_max = 256;

private:
  class connection;
  explicit client(std::unique_ptr<connection> with);

  std::unique_ptr<connection> with_;
};

} // namespace troupe::embed
