#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace troupe::base {

/// Standard output or error as a process speaks through it.
/// A terminal after Ctrl-S, a pipe nobody reads, a full disk, a reader that left: each makes write(2) block or fail,
/// and a supervisor that waits there supervises nobody. Such a descriptor is shared with strangers, so it is not ours
/// to make non-blocking, and POLLOUT promises room for one byte: where nobody may wait, a thread of the outlet's own
/// writes, from a queue with a bound. No call throws.
/// Contract: K6. Threads: any.
class outlet {
public:
  enum class manner {
    waits, ///< a client: the caller writes, and waits as long as its reader lets it
    drops, ///< a rank, whose pipe is non-blocking: the caller writes, and what the pipe does not take is lost
    thread ///< a supervisor: see above; without a thread every line is lost
  };
  /// What `offer` keeps while the thread waits; lines beyond it are lost. A `put` waits for room instead.
  static constexpr std::size_t queue_bytes_max = 256 * 1024;

  /// `losses`: see `line_writer`. The descriptor must stay open as long as the process.
  explicit outlet(int fd, std::string losses = {});

  /// To be chosen before other threads write.
  void become(manner how) noexcept;

  /// Lines for a person: lost, counted and later said where they cannot be written.
  void offer(std::string_view lines) noexcept;
  /// An answer: waits for its reader. After its first failure, and after `give_up`, nothing more is written.
  void put(std::string_view text) noexcept;

  /// True once all has been written or lost; false at the deadline, and where `give_up` has ended the wait.
  bool flush(std::optional<std::chrono::steady_clock::time_point> deadline = std::nullopt) noexcept;
  /// Nobody waits here any more: a person has interrupted.
  void give_up() noexcept;

  /// errno of the first `put` that failed; 0 while none has.
  int problem() const noexcept;

private:
  struct state;
  static void serve(const std::shared_ptr<state>& of) noexcept;

  std::shared_ptr<state> state_; ///< also the thread's, which nothing can call back from a write
};

/// The two of this process.
outlet& standard_output() noexcept;
outlet& standard_error() noexcept;

/// To stderr, from a process that ends: a terminal or pipe that takes nothing does not keep it.
void write_last_words(std::string_view line) noexcept;

/// The first thing of a process: where descriptors 0 to 2 are closed, the next socket would get their numbers, and log
/// lines would go into it. They are opened so that reads end at once and writes fail by name. Signals that writing
/// raises, SIGPIPE and SIGXFSZ, are ignored: the call's error says it.
/// Contract: K6.
void hold_standard_descriptors() noexcept;

} // namespace troupe::base
