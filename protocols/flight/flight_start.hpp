#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "protocols/flight/flight_ring.hpp"

/// Where the time between the launch of a rank and its being ready went, from its own record.
namespace troupe::protocols {

inline constexpr std::size_t start_parts = 8;

struct start_line {
  rank_id rank;
  generation born;
  std::string label;
  std::array<std::int64_t, start_parts> part_ns{}; ///< by start_part; what is left of the whole went to other things
  std::optional<std::int64_t> ready_ns;            ///< since its process was started; none: not ready
};

/// Of each rank the newest generation, by rank; of a record that was written over the parts that are left.
std::vector<start_line> starts_of(const std::vector<flight_story>& stories);

} // namespace troupe::protocols
