#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/metrics/view_messages.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// At the front: the newest that the supervisor has sent of every rank, in pages of `cluster_view`. Contract: J7.
/// Threads: its owner's. `plan` outlives it.
class view_board {
public:
  struct entry {
    rank_view last;
    time_point at; ///< when the front was told
  };

  explicit view_board(const cluster_plan& plan) : plan_(&plan), ranks_(plan.ranks.size()) {}

  /// Errors: bad_value, and nothing changes: a rank that is not of the plan, a page out of order.
  result<void> on_view(cluster_view page, time_point now);

  const cluster_plan& plan() const noexcept { return *plan_; }
  std::uint64_t taken() const noexcept { return taken_; } ///< the newest page
  cluster_stage stage() const noexcept { return stage_; }
  cache_epoch epoch() const noexcept { return epoch_; }
  time_point heard() const noexcept { return heard_; }
  /// Null: no view has named the rank yet.
  const entry* at(rank_id rank) const;

private:
  const cluster_plan* plan_;
  std::vector<std::optional<entry>> ranks_;
  std::uint64_t taken_ = 0;
  cluster_stage stage_ = cluster_stage::starting;
  cache_epoch epoch_{};
  time_point heard_{};
};

/// Whether a request that comes now would be served.
struct readiness {
  bool ready = false;
  std::string reason; ///< why not, with the rank and host at fault if there is one; empty if ready
  bool operator==(const readiness&) const = default;
};

/// The front is not ready in these cases:
/// - it starts or drains;
/// - its supervisor has sent nothing for `news_within`;
/// - a rank that serves completes nothing or is silent, since requests that are sent to it wait;
/// - a role that has cells has no cell whose ranks are all ready.
/// A lost cell beside others of its role is no such case: no request is sent to it.
/// `self`: the front's own state, which it knows before its supervisor does.
/// Contract: J7.
readiness judge_readiness(const view_board& board, life_state self, duration news_within, time_point now);

/// One rank's line of a health page.
struct health_row {
  rank_id rank;
  std::string label;
  std::string_view role;
  std::string host;
  std::uint32_t generation = 0; ///< 0: no view has named it yet
  std::string_view state;
  std::string trouble; ///< "computes and completes nothing for 1300 ms"; empty: none
  std::uint64_t progress_age_ms = 0;
  std::uint32_t restarts = 0;
  std::string cause; ///< of its last loss
};

/// One row for each rank of the plan, in order of ranks.
std::vector<health_row> health_rows(const view_board& board, time_point now);

} // namespace troupe::protocols
