#pragma once

#include <string>
#include <vector>

#include "protocols/cluster/cluster_spec.hpp"

namespace troupe::cluster {

/// A relation between settings that does not hold.
struct broken_rule {
  std::string rule; ///< "timeouts-rise": what the documentation and an error call it
  std::string key;  ///< the setting to look at: "timeouts.suspect_ms"
  std::string text; ///< what stands there, and what would be valid
};

/// Judges what no single key can: orders of timeouts, ports, what a model is needed for, the layout of the pools.
/// Contract: J8 (timeouts are one table with an order), C25.
std::vector<broken_rule> validate_spec(const protocols::cluster_spec& spec);

} // namespace troupe::cluster
