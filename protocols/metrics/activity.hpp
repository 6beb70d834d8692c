#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "protocols/flight/flight.hpp"

namespace troupe::protocols {

/// What a rank is in the middle of, for whoever asks why nothing gets done.
enum class rank_activity : std::uint8_t {
  idle = 0,
  computes = 1,         ///< in a step
  waits_for_peer = 2,   ///< in a collective of a step
  waits_for_device = 3, ///< in a step, until its GPU has done something
};
constexpr bool is_valid(rank_activity what) noexcept {
  return what <= rank_activity::waits_for_device;
}
std::string_view name(rank_activity what) noexcept;

/// From what its threads are in the middle of. A thread that computes counts before one that waits: the one that waits
/// is not at fault. One that was left by a fault, and one that waits for orders, is idle.
rank_activity activity_of(std::span<const flight_activity> threads) noexcept;

} // namespace troupe::protocols
