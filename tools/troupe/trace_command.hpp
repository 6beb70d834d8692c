#pragma once

#include <string>

#include "protocols/fault.hpp"
#include "runtime/cluster/job_directory.hpp"

namespace troupe::tools {

/// What a command that failed prints.
struct failure_report {
  std::string block; ///< where logs and records are, and what the records say; without records the former alone
  std::string cause; ///< the last line
};
/// `verdict`: what the supervisor says. The records of all ranks may know who stood behind the rank that it names: one
/// that waits in vain leaves before the one that it waits for.
failure_report report_failure(const cluster::job_paths& paths, const std::string& verdict);

} // namespace troupe::tools
