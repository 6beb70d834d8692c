#pragma once

#include "tools/bench/samples.hpp"

namespace troupe::bench {

/// Round trips of `bytes` between two event-based CAF actors in two processes, over CAF's middleman on loopback, with
/// the scheduler policy that woke fastest here (sharing). To be called before this process has threads: it forks.
samples caf_round_trips(std::size_t rounds, std::size_t bytes);

} // namespace troupe::bench
