#pragma once

#include <string>
#include <string_view>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/fault.hpp"
#include "runtime/cluster/spec_check.hpp"
#include "runtime/cluster/spec_file.hpp"

namespace troupe::tools {

/// Everything that can be known to be wrong before a process is started, checked.
struct checked_spec {
  cluster::loaded_spec loaded;
  protocols::cluster_plan plan;
  cluster::model_check model;
};

/// Errors: config_invalid, one line a problem with file, line and what would be valid.
protocols::result<checked_spec> check_spec(const std::string& file);

/// For a command that speaks as a client of program serve: `whose` is a spec's file or a job, `verb` the command.
/// Errors: config_invalid: another program runs there; what does work with it.
protocols::result<void> check_serves(const protocols::cluster_spec& spec, const std::string& whose,
                                     std::string_view verb);

} // namespace troupe::tools
