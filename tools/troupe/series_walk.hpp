#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>

#include "tools/troupe/series_job.hpp"
#include "tools/troupe/walk_result.hpp"

/// A random walk over a cluster: clients ask, take back and go, ranks are killed, paused and slowed, messages and
/// completions come late, the front is asked for more than it takes. Whatever happens, an answer is the one that the
/// question gets alone, or its beginning.
namespace troupe::tools {

struct walk_plan {
  std::uint32_t number = 1;
  std::uint64_t seed = 1;
  std::chrono::milliseconds length{60'000};
};

/// `questions` with their answers. `progress` gets a line at most every few seconds.
/// Errors: config_invalid (nothing could be launched).
protocols::result<walk_result> run_walk(const series_setup& setup, const std::vector<known_question>& questions,
                                        const walk_plan& plan, const std::function<void(std::string_view)>& progress);

} // namespace troupe::tools
