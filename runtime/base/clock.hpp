#pragma once

#include "protocols/time.hpp"

namespace troupe::base {

/// The one clock of a rank. Machines never ask it; actors do and hand the time on.
inline protocols::time_point now() noexcept {
  return std::chrono::time_point_cast<protocols::duration>(std::chrono::steady_clock::now());
}

} // namespace troupe::base
