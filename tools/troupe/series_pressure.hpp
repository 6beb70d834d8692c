#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>

#include "tools/troupe/series_job.hpp"

/// Overload and pauses that are just not long enough to be faults: nobody may be taken for dead.
namespace troupe::tools {

struct pressure_plan {
  std::chrono::seconds length{3600};
  std::uint64_t seed = 1;
};

struct pressure_result {
  series_trial trial;
  std::uint32_t pauses = 0;
  std::uint32_t overlong = 0;    ///< that this process ended too late; what follows from them is not counted
  std::uint32_t false_kills = 0; ///< generations that were started anew; 1 if the job ended
  protocols::duration lasted{};
};

/// Keeps twice `limits.in_flight_max` questions wanted and stops one process after the other, any of the job, for two
/// heartbeats less than its bound: `timeouts.kill_ms`, of the supervisor `timeouts.supervisor_ms`.
/// `progress` gets a line at most every few seconds. Errors: config_invalid (nothing could be launched).
protocols::result<pressure_result> run_pressure(const series_setup& setup, const pressure_plan& plan,
                                                const std::function<void(std::string_view)>& progress);

} // namespace troupe::tools
