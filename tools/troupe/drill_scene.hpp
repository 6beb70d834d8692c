#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "runtime/cluster/drill_file.hpp"
#include "tools/troupe/drill_cluster.hpp"
#include "tools/troupe/drill_crowd.hpp"
#include "tools/troupe/drill_load.hpp"

namespace troupe::tools {

/// Plays the scene of a drill: one act after the other, each when the one before it is over.
/// Threads: one. Never blocks, except for a connection and for the supervisor's answer to a fault.
class drill_scene {
public:
  /// All of them must outlive this.
  drill_scene(const cluster::drill& what, const protocols::cluster_plan& plan, const drill_cluster& running);

  /// Once the cluster is ready.
  void step(protocols::time_point now);
  /// Every act was played, and nothing is open.
  bool is_over() const;
  bool injects() const;
  std::string where() const;

  load_counts conclude() const;
  const std::vector<std::string>& complaints() const { return crowd_.complaints(); }
  /// What kept the scene from being played; once.
  std::optional<std::string> take_problem() { return std::exchange(problem_, std::nullopt); }

private:
  /// False: the act is not over yet.
  bool play(const cluster::drill_act& act);
  void ask(const cluster::drill_act& act);
  void inject(const cluster::drill_act& act);
  std::size_t strikes() const; ///< of `struck_`

  const cluster::drill& what_;
  const protocols::cluster_plan& plan_;
  const drill_cluster& running_;
  std::optional<std::string> problem_;
  std::vector<known_question> questions_; ///< of each page
  drill_crowd crowd_;
  std::optional<protocols::time_point> before_; ///< the end of the act before
  std::size_t next_ = 0;
  protocols::rank_id struck_;     ///< of the rule that was handed in last
  std::size_t struck_before_ = 0; ///< so often until then
};

} // namespace troupe::tools
