#include "protocols/metrics/activity.hpp"

#include <algorithm>

namespace troupe::protocols {

std::string_view name(rank_activity what) noexcept {
  switch (what) {
  case rank_activity::idle:
    return "is idle";
  case rank_activity::computes:
    return "computes";
  case rank_activity::waits_for_peer:
    return "waits for a peer";
  case rank_activity::waits_for_device:
    return "waits for its device";
  }
  return "unknown";
}

rank_activity activity_of(std::span<const flight_activity> threads) noexcept {
  const auto any_in = [&](flight_action action) {
    return std::ranges::any_of(
        threads, [=](const flight_activity& thread) { return thread.what.action == action && thread.until_ns == 0; });
  };
  if (any_in(flight_action::step))
    return rank_activity::computes;
  if (any_in(flight_action::device))
    return rank_activity::waits_for_device;
  return any_in(flight_action::collective) ? rank_activity::waits_for_peer : rank_activity::idle;
}

} // namespace troupe::protocols
