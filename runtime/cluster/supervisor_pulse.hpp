#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "protocols/fault.hpp"
#include "protocols/time.hpp"
#include "runtime/base/unique_fd.hpp"

/// The supervisor's sign of life, for ranks that know nothing of their job yet.
/// A rank that is told by its first frame where the supervisor's flight record lies learns it too late: a supervisor
/// that is stopped between a rank's start and that frame would be waited for. This is a page of memory that the rank
/// inherits, so it also needs no room on a disk.
namespace troupe::cluster {

/// The supervisor's end. Threads: `beat` one at a time.
class supervisor_pulse {
public:
  /// Errors: no_memory with errno in words.
  static protocols::result<supervisor_pulse> make();

  /// What a rank inherits; it can be mapped for reading alone.
  int fd() const noexcept { return page_.get(); }
  void beat() noexcept;

private:
  struct unmap {
    void operator()(std::uint64_t* beats) const noexcept;
  };
  supervisor_pulse(base::unique_fd page, std::uint64_t* beats) noexcept : page_(std::move(page)), beats_(beats) {}

  base::unique_fd page_;
  std::unique_ptr<std::uint64_t, unmap> beats_;
};

/// What a rank does first: a thread ends the process when the death pipe ends, or when the supervisor has given no sign
/// of life for `silent_max`, in which only time counts that this process was awake. Nothing in a rank is worth a moment
/// of waiting then.
/// Contract: C13. Ownership: takes `pulse_fd`; `death_fd` stays open for good.
/// Errors: no_memory (the pulse cannot be mapped); no thread runs then.
protocols::result<void> leave_with_supervisor(int death_fd, int pulse_fd, std::chrono::milliseconds silent_max);

} // namespace troupe::cluster
