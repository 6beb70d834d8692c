#pragma once

#include <chrono>

namespace troupe::actors {

/// How often a role actor tells its machines the time: deadlines of rooms and requests are seconds, so a tenth of one
/// is late enough for nobody and idle enough for everybody.
inline constexpr std::chrono::milliseconds tick_period{100};

} // namespace troupe::actors
