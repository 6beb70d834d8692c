#pragma once

#include <cstdint>
#include <optional>

#include "protocols/invariant.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// Tells silence from life by a number that grows while its owner lives.
/// Only time in which the judge itself was awake counts: after a pause of the whole machine, or of the judge's process,
/// everybody gets the full time again, so that a debugger's stop or a suspended laptop kills nobody.
/// Whoever is judged from outside may also be starved: a host that has too much to do does not let it run. Such a one
/// obeys and serves later, where a restart would only add to the load; so it has more time, and not for ever.
/// Contract: C4, C13. Source: an accrual detector was rejected: what is watched is on the same host or one lane away,
/// and an operator must be able to say from the spec after how long a rank is given up.
class liveness_judge {
public:
  struct bounds {
    duration suspect{};
    duration silent{};
    duration look{};    ///< at most this much is counted between two looks
    duration starved{}; ///< what one that could run and is not let run has in place of `silent`; less: `silent`
  };
  enum class liveness { alive, suspected, silent };

  explicit liveness_judge(const bounds& within) : within_(within) {}

  /// What the number is now. Never allocates.
  liveness on_sample(std::uint64_t pulse, time_point now) noexcept;
  /// The liveness of the last look on one of whom it is known whether it is `starved`: it could run, and is not let.
  liveness excuse(bool starved) const noexcept;
  /// Nothing is watched until the next look: what is watched has a right to be still.
  void rest() noexcept { last_look_.reset(); }

  duration silent_for() const noexcept { return silent_for_; }

private:
  friend class keeps_invariants<liveness_judge>;
  void check_invariants() const noexcept;
  void show_states(state_view& view) const;
  bounds within_;
  std::optional<time_point> last_look_;
  std::uint64_t pulse_ = 0;
  duration silent_for_{};
};

} // namespace troupe::protocols
