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

/// How often a rank tells what it has counted, and the supervisor what it knows: each second, and often enough that the
/// front knows of a wedge within `kill_ms`.
duration view_period(const cluster_spec::timeouts_section& timeouts) noexcept;
/// How long a rank may be busy and complete nothing before the front is told that it stands still: three periods before
/// `kill_ms`, which the news takes at most on its way.
duration still_after(const cluster_spec::timeouts_section& timeouts) noexcept;

/// In the supervisor: what each rank has said of itself, and the pages that tell the front of it.
/// A rank stands still while it is busy and completes nothing. An idle rank rests too, so standstill is measured from
/// the last moment at which it was idle or had completed something. Its own watchdog ends it later (`progress_ms`):
/// until then nobody is to be sent here.
/// A front that waits for an edge reads no frames, so pages wait for it: it says which it has taken, and at most
/// `pages_ahead_max` are on their way. Without that a busy front's socket would fill up, which is the end of a rank.
/// Contract: J7, E1, A26.
/// Threads: the supervisor's.
class view_machine {
public:
  /// Of the frames that are on their way to a front, each of about `page_bytes`.
  static constexpr std::uint64_t pages_ahead_max = 16;
  static constexpr std::size_t page_bytes = 64 * 1024;
  static constexpr std::size_t values_max = 16 * 1024; ///< of one rank
  static constexpr std::size_t cause_bytes_max = 400;

  struct bounds {
    duration every{};
    duration still{};
  };
  /// A rank's flight record, as somebody has looked at it.
  struct sign {
    std::uint64_t progress = 0;
    rank_activity activity = rank_activity::idle;
    bool suspected = false; ///< gives no sign of life
  };

  /// `hosts` by rank. `plan` outlives the machine.
  view_machine(const cluster_plan& plan, std::vector<std::string> hosts, const bounds& within, time_point now);

  /// Errors: bad_value, and nothing changes: a metric that this rank does not count or that stands twice, a histogram
  /// of other bounds, a peer that is none, a view that was never sent.
  result<void> on_counters(rank_id from, counters said, time_point now);
  void on_sign(rank_id of, const sign& seen, time_point now);
  /// A new process has taken the place of the one before.
  void on_restarted(rank_id rank, generation born, time_point now);
  void on_blamed(const first_cause& cause);
  /// What is to be sent to the front now. To be called at least every `every / 4`.
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
    time_point at_ease;           ///< when it was idle or had completed something
    counters counted;             ///< what it said last
    std::vector<metric_row> rows; ///< what it counts
  };

  result<void> validate(rank_id from, const counters& said) const;
  void move(known_rank& one, std::uint64_t progress, rank_activity activity, time_point now);
  rank_view view_of(rank_id rank, const life_machine& life, time_point now) const;

  const cluster_plan& plan_;
  std::vector<std::string> hosts_;
  bounds within_;
  std::vector<known_rank> ranks_;
  std::uint64_t sent_ = 0;  ///< pages
  std::uint64_t taken_ = 0; ///< of these, by the front
  std::uint32_t cursor_;    ///< the next rank of this round; all: the round is over
  time_point round_due_;
};

} // namespace troupe::protocols
