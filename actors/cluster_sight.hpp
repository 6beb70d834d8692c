#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/metrics/metric_family.hpp"
#include "protocols/metrics/view_board.hpp"

namespace troupe::actors {

/// In the front: what monitoring systems and load balancers see of the cluster. It shows the newest views of the
/// supervisor, except for the front's own state: a drain begins here, before a view can say so.
/// Contract: J7.
/// Threads: any; a lock is held while a view is copied or read, and no role's actor takes it.
class cluster_sight {
public:
  /// `plan` and `spec` outlive it.
  cluster_sight(const protocols::cluster_plan& plan, const protocols::cluster_spec& spec);

  // To be called by the rank's main thread.
  void reached(protocols::life_state here) noexcept { here_.store(here, std::memory_order_relaxed); }
  /// Errors: bad_value, as `view_board::on_view`.
  protocols::result<void> on_view(protocols::cluster_view page, protocols::time_point now);
  std::uint64_t taken() const;

  protocols::readiness ready(protocols::time_point now) const;
  std::vector<protocols::health_row> health(protocols::time_point now) const;
  /// `known_too`: also under vLLM's names.
  std::vector<protocols::metric_family> families(bool known_too, protocols::time_point now) const;

private:
  protocols::readiness judge(protocols::time_point now) const;

  const protocols::cluster_spec& spec_;
  std::string model_;
  std::atomic<protocols::life_state> here_ = protocols::life_state::spawned;
  mutable std::mutex mutex_; ///< guards `board_`
  protocols::view_board board_;
};

} // namespace troupe::actors
