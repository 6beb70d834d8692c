#pragma once

#include "draw.hpp"
#include "gpu/models/model.hpp"
#include "protocols/cluster/cluster_plan.hpp"

namespace troupe::sim {

/// A cluster to be simulated: its spec, a small model that any of its cells can be cut for, and the plan.
struct sim_cluster {
  protocols::cluster_spec spec;
  gpu::models::model_facts facts;
  protocols::cluster_plan plan;
};

/// One to four cells a pool, of up to four ranks or three stages; slots and blocks from hardly enough to plenty; every
/// deadline within the rules between them. `ranks_max` bounds the cluster, which shrinking lowers.
sim_cluster draw_cluster(draw& dice, std::uint32_t ranks_max);
/// Of a spec that somebody wrote; the model is the simulator's. Errors: config_invalid.
protocols::result<sim_cluster> cluster_of(protocols::cluster_spec spec);

} // namespace troupe::sim
