#pragma once

#include <atomic>
#include <thread>

#include "runtime/base/unique_fd.hpp"
#include "runtime/cluster/stop_signals.hpp"
#include "runtime/cluster/supervisor.hpp"

namespace troupe::tools {

/// Who ends a run: its client, when every page has its answer, or a person, by a signal. A supervisor that is asked a
/// second time aborts, so that a person can insist; here only a person may ask twice.
/// To be made before other threads are: from then on they do not get the signals.
/// Threads: its own waits for signals; `finish` any thread.
class interruption {
public:
  explicit interruption(cluster::supervisor& supervisor);
  ~interruption();
  interruption(const interruption&) = delete;
  interruption& operator=(const interruption&) = delete;

  /// The client's: drains, unless a person has already asked for it.
  void finish();
  bool seen() const noexcept { return seen_; }
  /// The supervisor has ended: from here on a signal ends the wait for whoever reads the answers.
  void only_answers_are_left() noexcept { only_answers_ = true; }

private:
  void watch();

  cluster::supervisor& supervisor_;
  cluster::stop_signals signals_;
  base::unique_fd wake_; ///< eventfd: nobody will interrupt any more
  std::atomic<bool> asked_ = false;
  std::atomic<bool> seen_ = false;
  std::atomic<bool> only_answers_ = false;
  std::thread thread_; ///< last: it uses all of the above
};

} // namespace troupe::tools
