#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/life_machine.hpp"
#include "protocols/invariant.hpp"
#include "protocols/limits.hpp"
#include "protocols/metrics/view_messages.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// How often a rank sends its counts to the supervisor, and the supervisor its views to the front: at least each
/// second, and often enough that the front learns of a wedged rank within `kill_ms`.
duration view_period(const cluster_spec::timeouts_section& timeouts) noexcept;
/// How long a rank may be busy and complete nothing before views call it still: `kill_ms` less three periods, since a
/// view takes at most three periods to reach the front.
duration still_after(const cluster_spec::timeouts_section& timeouts) noexcept;

/// In the supervisor: keeps what each rank has reported, and makes the pages that carry it to the front.
/// A rank is still while it is busy and completes nothing. An idle rank completes nothing either, so the time counts
/// from the last moment at which the rank was idle or completed something. Its own watchdog ends such a rank, but later
/// (`progress_ms`): until then a load balancer must know not to send requests here.
/// A front that waits for an edge reads no frames. So it acknowledges each page, and at most `pages_ahead_max` pages
/// are on their way. Otherwise the socket of a busy front would fill up, and a rank whose socket is full is ended.
/// Contract: J7, E1, A26.
/// Threads: the supervisor's.
class view_machine {
public:
  /// Pages on their way to the front that it has not acknowledged; each is a frame of about `page_bytes`.
  static constexpr std::uint64_t pages_ahead_max = 16;
  static constexpr std::size_t page_bytes = 64 * 1024;
  static constexpr std::size_t values_max = 16 * 1024; ///< of one rank
  static constexpr std::size_t cause_bytes_max = 400;

  /// Of one cluster.
  struct bounds {
    duration every{}; ///< `view_period`
    duration still{}; ///< `still_after`
  };
  /// What the supervisor's watchdog reads in a rank's flight record.
  struct sign {
    std::uint64_t progress = 0;
    rank_activity activity = rank_activity::idle;
    bool suspected = false; ///< the rank gives no sign of life
  };

  /// `hosts` by rank. `plan` outlives the machine.
  view_machine(const cluster_plan& plan, std::vector<std::string> hosts, const bounds& within, time_point now);

  /// Errors: bad_value, and nothing changes: a metric that this rank does not count or that comes twice, a histogram
  /// with other bounds, a peer that does not exist, an acknowledged view that was never sent.
  result<void> on_counters(rank_id from, counters said, time_point now);
  void on_sign(rank_id of, const sign& seen, time_point now);
  /// A new process has taken the place of the one before.
  void on_restarted(rank_id rank, generation born, time_point now);
  /// `cause` is the first cause of a loss, and names its rank.
  void on_blamed(const first_cause& cause);
  /// The pages to be sent to the front now. To be called at least every `every / 4`.
  std::vector<cluster_view> next(const life_machine& life, time_point now);

private:
  friend class keeps_invariants<view_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  struct known_rank {
    generation born{1};
    std::uint32_t restarts = 0;
    std::string cause;
    sign last;
    time_point moved;             ///< when `last.progress` grew
    time_point at_ease;           ///< when it was last idle, or completed something
    counters counted;             ///< its newest report
    std::vector<metric_row> rows; ///< the metrics that it counts
  };

  result<void> validate(rank_id from, const counters& said) const;
  void move(known_rank& one, std::uint64_t progress, rank_activity activity, time_point now);
  rank_view view_of(rank_id rank, const life_machine& life, time_point now) const;

  const cluster_plan& plan_;
  std::vector<std::string> hosts_;
  bounds within_;
  std::vector<known_rank> ranks_;
  std::uint64_t sent_ = 0;  ///< pages
  std::uint64_t taken_ = 0; ///< of these, acknowledged by the front
  std::uint32_t cursor_;    ///< the next rank of this round; the number of ranks: the round is over
  time_point round_due_;
};

} // namespace troupe::protocols
