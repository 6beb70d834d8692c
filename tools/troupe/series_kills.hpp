#pragma once

#include <chrono>
#include <cstdint>

#include "tools/troupe/series_job.hpp"

/// SIGKILL of any process of a job at any time: whatever has to go is gone 5 s later, and what may come back serves.
namespace troupe::tools {

enum class kill_moment {
  starting, ///< counted from the launch
  serving,  ///< counted from the first question
  draining, ///< counted from the order to finish
};

struct kill_plan {
  protocols::rank_id victim; ///< a rank, or supervisor_rank
  kill_moment when{};
  std::chrono::microseconds after{};

  bool operator==(const kill_plan&) const = default;
};

/// Any process of the plan with the same chance; the same for the same seed and trial.
kill_plan draw_kill(std::uint64_t seed, std::uint32_t trial, const protocols::cluster_plan& plan);

/// Errors: config_invalid (nothing could be launched).
protocols::result<series_trial> run_kill(const series_setup& setup, std::uint32_t number, const kill_plan& plan);

} // namespace troupe::tools
