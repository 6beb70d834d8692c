#pragma once

#include <optional>
#include <string>

#include "protocols/fault.hpp"
#include "runtime/cluster/supervisor.hpp"
#include "tools/troupe/checked_spec.hpp"
#include "tools/troupe/job.hpp"

namespace troupe::tools {

/// What `run` and `up` have in common: the job's name and place, and this program as the ranks'.
/// `http`: where the door listens in place of the spec's address; empty: nowhere.
/// Errors: config_invalid (the run directory cannot be used).
protocols::result<cluster::supervisor_options>
supervisor_options_of(const cluster::loaded_spec& spec, const job_options& job, const std::optional<std::string>& http);

} // namespace troupe::tools
