#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/invariant.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// Which ranks are started again together, and how often.
/// A unit is a cell and every cell that shares a rank with it: ranks in lockstep die together. The unit of the front is
/// never restarted: with it go the clients' connections and the ledger of what was emitted.
/// Restarts are counted for each unit within a window: a cell that keeps dying is a fault that a restart does not cure.
/// Contract: C1, C38, D7. Source: the restart intensity of Erlang/OTP's supervisors.
class restart_machine {
public:
  restart_machine(const cluster_plan& plan, const cluster_spec::restart_section& policy);

  /// Ranks of the unit of `rank`, by id; empty when the spec or the unit's roles allow no restart.
  std::vector<rank_id> unit_of(rank_id rank) const;

  /// Counts one restart of the unit that `rank` belongs to. False: it has had its `intensity` within the window before
  /// `serving_until`, when the cluster last served whole: attempts of one recovery all count, however long they take.
  bool allow(rank_id rank, time_point serving_until, time_point now);

  /// "restart 2 of at most 3 in 60 s".
  std::string count_text(rank_id rank) const;

private:
  friend class keeps_invariants<restart_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  const cluster_plan& plan_;
  cluster_spec::restart_section policy_;
  std::map<rank_id, std::deque<time_point>> restarts_; ///< by the first rank of the unit
};

} // namespace troupe::protocols
