#pragma once

#include "tools/troupe/series_job.hpp"

namespace troupe::tools {

/// Launch, one question, drain, exit: nothing hangs, everything leaves, the answer is right.
/// Errors: config_invalid (nothing could be launched).
protocols::result<series_trial> run_cycle(const series_setup& setup, std::uint32_t number);

} // namespace troupe::tools
