#pragma once

#include <chrono>

namespace troupe::protocols {

/// Machines take the time as an argument: an actor passes the steady clock, the simulator its own.
using duration = std::chrono::nanoseconds;
using time_point = std::chrono::time_point<std::chrono::steady_clock, duration>;

} // namespace troupe::protocols
