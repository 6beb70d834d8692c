#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/life_messages.hpp"

namespace troupe::actors {

/// Whether a request that came now would be served, as the front knows it from the supervisor.
/// Threads: any; a few instructions at a time, never in a decode step.
class service_state {
public:
  /// Why it would not be: a code of the door ("not_ready", "draining", "cell_gone") and words.
  struct obstacle {
    std::string code;
    std::string what;
  };

  explicit service_state(const protocols::cluster_plan& plan) : plan_(plan) {}

  void serves();
  void drains();
  void lose(const protocols::lost& news);
  void recover(const protocols::recovered& news);

  /// None: it would be served.
  std::optional<obstacle> obstacle_now() const;

private:
  using lost_rank = std::pair<const protocols::rank_id, std::string>; ///< with the cause

  std::optional<obstacle> obstacle_here() const;

  const protocols::cluster_plan& plan_;
  mutable std::mutex mutex_;
  bool serves_ = false;
  bool drains_ = false;
  std::map<protocols::rank_id, std::string> lost_; ///< until they are back
};

} // namespace troupe::actors
