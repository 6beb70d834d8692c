#pragma once

#include <functional>
#include <memory>

#include "actors/rank_program.hpp"
#include "gpu/group.hpp"
#include "runtime/cluster/rank_device.hpp"
#include "runtime/cluster/rank_edges.hpp"

namespace troupe::cluster {

/// Joins the groups that one rank is a member of: their lanes, and the collectives of its device.
/// Contract: B1, B26, G1. Threads: the rank's main thread.
class rank_groups {
public:
  /// All three outlive it, and the groups that it makes.
  rank_groups(const actors::rank_context& rank, const rank_device& device, rank_edges& edges)
      : rank_(rank), device_(device), edges_(edges) {}

  /// As `actors::rank_services::join`.
  protocols::result<actors::cell_groups> join(const protocols::cell_plan& cell,
                                              const std::function<protocols::result<void>()>& load,
                                              protocols::time_point deadline);

private:
  protocols::result<std::shared_ptr<gpu::group_lanes>> take_lanes(protocols::group_id id,
                                                                  protocols::time_point deadline);
  protocols::result<std::shared_ptr<gpu::group>> make_group(const std::shared_ptr<gpu::group_lanes>& lanes);
  protocols::result<void> settle(gpu::group& group, protocols::time_point deadline);
  protocols::result<void> give_device(gpu::group& group);
  void warn_of_turns(const gpu::group& group) const;

  const actors::rank_context& rank_;
  const rank_device& device_;
  rank_edges& edges_;
};

} // namespace troupe::cluster
