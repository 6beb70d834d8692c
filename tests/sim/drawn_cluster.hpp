#pragma once

#include "gpu/models/model.hpp"
#include "protocols/cluster/cluster_plan.hpp"
#include "tests/sim/draw.hpp"

namespace troupe::sim {

/// A cluster to be simulated: its spec, a small model that any of its cells can be cut for, and the plan.
struct sim_cluster {
  protocols::cluster_spec spec;
  gpu::models::model_facts facts;
  protocols::cluster_plan plan;
};

/// One to four cells a pool, each of one to four ranks a stage and one to three stages, or a single rank of role `all`;
/// slots and blocks from hardly enough to plenty; every deadline within the rules between them. `ranks_max` bounds its
/// ranks; `shrink` lowers it.
sim_cluster draw_cluster(draw& dice, std::uint32_t ranks_max);
/// Of a spec that somebody wrote; the model is the simulator's. Errors: config_invalid.
protocols::result<sim_cluster> cluster_of(protocols::cluster_spec spec);

} // namespace troupe::sim
