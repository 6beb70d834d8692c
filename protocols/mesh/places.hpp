#pragma once

#include <algorithm>
#include <vector>

namespace troupe::protocols {

/// Whether every rank of a cell has said it, by place.
inline bool all(const std::vector<bool>& places) {
  return std::all_of(places.begin(), places.end(), [](bool here) { return here; });
}

} // namespace troupe::protocols
