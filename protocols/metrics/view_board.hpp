#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/metrics/view_messages.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// At the front: what it knows of every rank, from the pages of `cluster_view`. Contract: J7.
/// Threads: whoever owns it. `plan` outlives it.
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
  /// Null: nothing was told of it yet.
  const entry* at(rank_id rank) const;

private:
  const cluster_plan* plan_;
  std::vector<std::optional<entry>> ranks_;
  std::uint64_t taken_ = 0;
  cluster_stage stage_ = cluster_stage::starting;
  cache_epoch epoch_{};
  time_point heard_{};
};

/// Whether a request that came now would be served.
struct readiness {
  bool ready = false;
  std::string reason; ///< why not, with rank and host where one is at fault; empty when it is
  bool operator==(const readiness&) const = default;
};

/// Not ready: while the front starts or drains; when its supervisor has told nothing for `news_within`; while a rank
/// that serves stands still or gives no sign of life, since what is sent to it waits; while a job of the program that
/// the cluster has cells for has no cell whose ranks are all ready. A lost cell beside others of its job is no reason:
/// nothing is sent to it.
/// `self`: the front's own state, which it knows before its supervisor does.
/// Contract: J7.
readiness judge_readiness(const view_board& board, life_state self, duration news_within, time_point now);

/// One rank, as an operator reads it.
struct health_row {
  rank_id rank;
  std::string label;
  std::string_view role;
  std::string host;
  std::uint32_t generation = 0; ///< 0: nothing was told of it yet
  std::string_view state;
  std::string trouble; ///< "computes and completes nothing for 1300 ms"; empty: none
  std::uint64_t progress_age_ms = 0;
  std::uint32_t restarts = 0;
  std::string cause; ///< of its last loss
};

/// By rank.
std::vector<health_row> health_rows(const view_board& board, time_point now);

} // namespace troupe::protocols
