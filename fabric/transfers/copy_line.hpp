#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "fabric/transfers/device_memory.hpp"
#include "fabric/transfers/transfer_queue.hpp"

namespace troupe::fabric {

/// Copies between a device's memory and the host's, one after another in the order in which they were put in line.
/// The order is what makes a slot's next tenant safe from its last: its copy is behind what is still on its way.
/// What goes to several peers, the rows of a picture, is copied once: a job that repeats the one before, behind the
/// same event, finds its bytes in the target, where others read them by now.
/// Contract: E10, E12, E18.
/// Threads: one of its own, which naps when nothing is in line; `put` and `stop` from any other.
class copy_line {
public:
  struct job {
    std::vector<write_piece> pieces; ///< were checked
    const std::byte* source = nullptr;
    std::byte* target = nullptr;
    std::shared_ptr<const device_event> after; ///< none: at once
    protocols::time_point deadline;
    /// Called once, on the line's thread: the bytes are in the target, or timeout, executor_failed, transfer_failed
    /// (stopped). After a timeout the device may still copy; it takes no other copy before.
    std::function<void(protocols::result<void>)> then;
  };

  copy_line(std::unique_ptr<device_copies> by, std::size_t jobs_max) : by_(std::move(by)), jobs_(jobs_max) {}
  ~copy_line() { stop(); }

  /// Before `start`: the line's thread turns, also while nothing is in line (K13).
  void be_watched(const base::watching& by);
  void start(const char* thread_name);
  /// Errors: queue_full, shutting_down; then `then` is not called.
  protocols::result<void> put(job what);
  /// Ends what is in line by transfer_failed. Idempotent.
  void stop() noexcept;

private:
  /// What the newest copy has brought, and behind which event.
  struct copied {
    std::vector<write_piece> pieces;
    const std::byte* source = nullptr;
    std::weak_ptr<const device_event> after; ///< of none, or of one that has gone, nothing is known
  };

  void run() noexcept;
  std::optional<job> next();
  protocols::result<void> carry_out(const job& what);
  protocols::result<void> copy(const job& what);
  bool repeats_newest(const job& what) const;

  std::unique_ptr<device_copies> by_;
  std::mutex mutex_;
  std::condition_variable changed_; ///< something was put in line, or it stops
  transfer_queue<job> jobs_;        ///< guarded by `mutex_`
  bool stopping_ = false;           ///< guarded by `mutex_`
  copied newest_;                   ///< the line's thread's own
  base::progress_counter turn_;     ///< the line's thread's own, once started
  protocols::duration nap_ = std::chrono::seconds{1};
  std::thread thread_;
};

} // namespace troupe::fabric
