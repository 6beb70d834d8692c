#pragma once

#include "protocols/time.hpp"

namespace troupe::protocols {

/// Decides when a rank sends its counts again. A rank that was held up sends once, not once for each time it missed:
/// each report has all counts. Threads: the owner's.
class report_pace {
public:
  explicit report_pace(duration every) noexcept : every_(every) {}

  /// True: send now; the next report is due `every` later.
  bool is_due(time_point now) noexcept {
    if (now < due_)
      return false;
    due_ = now + every_;
    return true;
  }
  duration every() const noexcept { return every_; }

private:
  duration every_;
  time_point due_{};
};

} // namespace troupe::protocols
