#pragma once

#include <algorithm>
#include <optional>

#include "protocols/limits.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// The time in which this rank itself ran. A pause of the whole process, however long, counts as one step: bytes that
/// wait in its sockets do not arrive while it stands still, so a rest that ran on meanwhile would end before them.
class own_time {
public:
  /// At least every `limits::own_time_step_max`, or time is missing.
  void advance(time_point now) {
    if (last_)
      ran_ += std::clamp<duration>(now - *last_, duration{}, limits::own_time_step_max);
    last_ = now;
  }
  duration ran() const noexcept { return ran_; }

private:
  duration ran_{};
  std::optional<time_point> last_;
};

} // namespace troupe::protocols
