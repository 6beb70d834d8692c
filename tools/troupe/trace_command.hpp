#pragma once

#include <string>

#include "protocols/fault.hpp"
#include "runtime/cluster/job_directory.hpp"

namespace troupe::tools {

/// What a command that failed prints before its last line: where logs and records are, and what the records say.
/// Empty where no record can be read.
std::string failure_block(const cluster::job_paths& paths);

} // namespace troupe::tools
