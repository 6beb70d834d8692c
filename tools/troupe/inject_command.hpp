#pragma once

#include <string>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/drill/drill_messages.hpp"

namespace troupe::tools {

/// The rules of a command line for that plan. Errors: config_invalid, invalid_request, in one line.
protocols::result<std::vector<protocols::inject>> resolve_rules(const std::vector<std::string>& texts,
                                                                const protocols::cluster_plan& plan);

} // namespace troupe::tools
