#pragma once

#include "protocols/time.hpp"

namespace troupe::protocols {

/// When a rank is to tell again what it has counted. One that was held up tells once and not for each time that it has
/// missed: what it tells is the whole. Threads: the owner's.
class report_pace {
public:
  explicit report_pace(duration every) noexcept : every_(every) {}

  /// True: tell it now.
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
