#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace troupe::base {

/// Standard output or error of a process.
/// A terminal after Ctrl-S, a pipe nobody reads, a full disk, a reader that left: each makes write(2) block or fail,
/// and a supervisor that blocks there supervises nobody. Other processes share the descriptor, so it must not be made
/// non-blocking, and POLLOUT promises room for one byte only. A process that may not block therefore has the outlet's
/// own thread write, from a bounded queue. No call throws.
/// Contract: K6. Threads: any.
class outlet {
public:
  enum class manner {
    waits, ///< a client: the caller writes, and waits for its reader
    drops, ///< a rank, whose pipe is non-blocking: the caller writes, and what the pipe does not take is lost
    thread ///< a supervisor: the outlet's thread writes; if it cannot be started, every line is lost
  };
  /// What `offer` keeps while the thread waits; lines beyond it are lost. A `put` waits for room instead.
  static constexpr std::size_t queue_bytes_max = 256 * 1024;

  /// `losses`: see `line_writer`. The descriptor must stay open as long as the process.
  explicit outlet(int fd, std::string losses = {});

  /// To be chosen before other threads write.
  void become(manner how) noexcept;

  /// Lines for a person. Lines that cannot be written are lost and counted; the count is written later.
  void offer(std::string_view lines) noexcept;
  /// An answer: waits for its reader. After its first failure, and after `give_up`, nothing more is written.
  void put(std::string_view text) noexcept;

  /// True once all has been written or lost; false at the deadline, and where `give_up` has ended the wait.
  bool flush(std::optional<std::chrono::steady_clock::time_point> deadline = std::nullopt) noexcept;
  /// Ends `flush`, and a `put` that waits for the thread: a person has interrupted.
  void give_up() noexcept;

  /// errno of the first `put` that failed; 0 while none has.
  int problem() const noexcept;

private:
  struct state;
  static void serve(const std::shared_ptr<state>& of) noexcept;

  std::shared_ptr<state> state_; ///< shared with the thread, whose write nothing can interrupt
};

/// The two of this process.
outlet& standard_output() noexcept;
outlet& standard_error() noexcept;

/// To stderr, from a process that ends; gives up after 100 ms where stderr takes nothing.
void write_last_words(std::string_view line) noexcept;

/// To be called first in a process. Where descriptors 0 to 2 are closed, the next socket would get their numbers, and
/// log lines would go into it. They are opened on `/dev/null` for reading: reads end at once, writes fail with EBADF.
/// SIGPIPE and SIGXFSZ, which writing raises, are ignored: the call's errno reports the same.
/// Contract: K6.
void hold_standard_descriptors() noexcept;

} // namespace troupe::base
