#pragma once

#include <algorithm>
#include <optional>

#include "protocols/limits.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// The time in which this rank itself ran. A pause of the whole process, however long, counts as one step. Bytes that
/// wait in its sockets do not arrive while it is stopped, so memory must not finish its rest meanwhile.
class own_time {
public:
  /// To be called at least every `limits::own_time_step_max`; what is longer is not counted.
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
