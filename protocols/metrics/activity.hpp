#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "protocols/flight/flight.hpp"

namespace troupe::protocols {

/// What a rank is doing. It tells an operator why a rank completes nothing.
enum class rank_activity : std::uint8_t {
  idle = 0,
  computes = 1,         ///< in a step
  waits_for_peer = 2,   ///< in a collective of a step
  waits_for_device = 3, ///< in a step, for its GPU
};
constexpr bool is_valid(rank_activity what) noexcept {
  return what <= rank_activity::waits_for_device;
}
std::string_view name(rank_activity what) noexcept;

/// The activity of a rank, from those of its threads. If one thread computes, the rank computes, since the threads that
/// wait may wait for that one. A thread that waits for orders, or whose work a fault ended, is idle.
rank_activity activity_of(std::span<const flight_activity> threads) noexcept;

} // namespace troupe::protocols
