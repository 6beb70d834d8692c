#include "protocols/cluster/liveness_judge.hpp"

#include <algorithm>

namespace troupe::protocols {

liveness_judge::liveness liveness_judge::on_sample(std::uint64_t pulse, time_point now) noexcept {
  const keeps_invariants checked{*this};
  const bool fresh = !last_look_ || pulse != pulse_;
  silent_for_ = fresh ? duration{} : silent_for_ + std::clamp<duration>(now - *last_look_, duration{}, within_.look);
  pulse_ = pulse;
  last_look_ = now;
  return excuse(false);
}

liveness_judge::liveness liveness_judge::excuse(bool starved) const noexcept {
  if (silent_for_ >= (starved ? std::max(within_.silent, within_.starved) : within_.silent))
    return liveness::silent;
  return silent_for_ >= within_.suspect ? liveness::suspected : liveness::alive;
}

void liveness_judge::check_invariants() const noexcept {
  TROUPE_ASSERT("C4", silent_for_ >= duration{});
}

} // namespace troupe::protocols
