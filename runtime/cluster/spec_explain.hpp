#pragma once

#include <string>

#include "protocols/cluster/cluster_plan.hpp"
#include "runtime/cluster/spec_file.hpp"

/// What `troupe spec explain` shows.
namespace troupe::cluster {

/// One line a key: its value, and where that came from ("reader.json:15" or "default").
std::string explain_values(const loaded_spec& loaded);

/// The cluster in words: pools, cells, ranks and groups, and the lane of each kind of edge.
std::string explain_plan(const protocols::cluster_spec& spec, const protocols::cluster_plan& plan);

/// The same as a Graphviz graph: a box a cell, a node a rank, an edge where typed messages flow.
std::string explain_dot(const protocols::cluster_spec& spec, const protocols::cluster_plan& plan);

} // namespace troupe::cluster
