#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/life_messages.hpp"

namespace troupe::actors {

/// Whether a request that comes now would be served, from the supervisor's orders to the front: serve, drain, lost and
/// recovered. `cluster_sight` has the same from the supervisor's views, which come later and know of wedged ranks.
/// Threads: any; the lock is held for a few instructions, and never taken in a decode step.
class service_state {
public:
  /// Why a request would not be served: an error code of the API ("not_ready", "draining", "cell_gone"), and words.
  struct obstacle {
    std::string code;
    std::string what;
  };

  explicit service_state(const protocols::cluster_plan& plan) : plan_(plan) {}

  void serves();
  void drains();
  void lose(const protocols::lost& news);
  void recover(const protocols::recovered& news);

  /// None: a request would be served.
  std::optional<obstacle> obstacle_now() const;

private:
  using lost_rank = std::pair<const protocols::rank_id, std::string>; ///< with the cause

  std::optional<obstacle> obstacle_here() const;

  const protocols::cluster_plan& plan_;
  mutable std::mutex mutex_;
  bool serves_ = false;
  bool drains_ = false;
  std::map<protocols::rank_id, std::string> lost_; ///< ranks that are lost now
};

} // namespace troupe::actors
