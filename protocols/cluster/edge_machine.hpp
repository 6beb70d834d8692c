#pragma once

#include <compare>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/epoch_fence.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/cluster/recovery_deadlines.hpp"
#include "protocols/fault.hpp"
#include "protocols/invariant.hpp"
#include "protocols/time.hpp"
#include "protocols/wire/edge_messages.hpp"

namespace troupe::protocols {

/// One lane of the edge between this rank and a peer.
struct lane_name {
  rank_id peer;
  channel_kind channel = channel_kind::control;
  group_id group{}; ///< for channel_kind::group
  auto operator<=>(const lane_name&) const = default;
};

/// The edges of one rank: which lanes the plan wants, who connects them, which hello is welcome, what a loss and a
/// rejoin of peers do to them.
/// Who connects: of two ranks of one generation the lower one. A rank that was started later connects to those that
/// stayed, which serve meanwhile and never wait for it.
/// Generations: a peer begins each lane once in a generation. A lane counts as begun when it exists, not when its hello
/// was accepted: after the hello it may still fail for lack of descriptors or memory, and the peer must be able to
/// retry. A begun lane, or a `lost` message, excludes all earlier generations of the peer. A hello of the new
/// generation may arrive before the `lost` message for the old one; its lanes are kept.
/// Epochs: an edge begins in the epoch of the rank that connects it, which is the later one of the two.
/// Contract: B9, D2, K1, K2, K5, K14.
/// Threads: call under the owner's lock. Any thread may call `planned` and `driver_of`, whose results never change.
class edge_machine {
public:
  enum class driver {
    wire,     ///< its frames are typed messages
    executor, ///< of the group's cell, or of the leader that sends tokens, drives it itself
  };

  /// `epoch`: of the job when this rank was started.
  edge_machine(const cluster_plan& plan, rank_id self, generation born, cache_epoch epoch, recovery_deadlines waits);

  const std::set<lane_name>& planned() const noexcept { return planned_; }
  driver driver_of(const lane_name& which) const;

  /// Every rank of the start has joined. Errors: bad_value (it does not list every rank at its place).
  result<void> on_roster(const roster& everybody);
  /// True: this rank connects the lane. False: the peer connects it and this rank accepts it.
  bool begins(const lane_name& which) const;
  /// The deadline for making an edge to `peer` and attaching its memory. A peer of this rank's own generation is
  /// starting too and gets the whole `deadline`. Any other peer listens already and gets at most
  /// `recovery_deadlines::reconnect`.
  time_point deadline_with(rank_id peer, time_point deadline, time_point now) const;

  /// Whether a peer of that generation may begin the lane that its hello names, in `epoch`; nothing changes.
  /// Errors: wrong_group, wrong_rank (the plan has no such lane that the peer connects), stale_generation (a later one
  /// is known), stale_epoch (the peer was lost since, or this rank is of a later epoch), wrong_sequence (the peer has
  /// begun this lane before).
  result<void> validate_hello(rank_id peer, generation born, cache_epoch epoch, const hello& said) const;
  /// Whether what a peer said of itself in `sent_in` still holds. Errors: stale_epoch (it was lost since).
  result<void> validate_word(rank_id peer, cache_epoch sent_in) const { return fence_.validate(sent_in, peer); }
  /// The lane of a hello that was welcome is there.
  void on_begun(const lane_name& which, generation born);
  /// Whether the end of a lane to generation `born` of the peer matters. False: a later generation is known.
  bool is_news(rank_id peer, generation born) const { return born >= known(peer); }

  /// No earlier generation than `news.next` counts any more. Errors: bad_value (a rank that the plan does not have).
  result<void> on_lost(const lost& news);
  /// Whether an accepted lane that nobody has taken yet must be dropped, because its peer's process is lost.
  bool is_dropped(const lane_name& which, const lost& news) const;

  /// What a rank that stayed does for a new generation, in order: it takes `lanes`, ends the old writers' rights to its
  /// memory, and attaches the new generation's memory.
  struct admission {
    std::set<rank_id> ranks;
    std::vector<lane_name> lanes; ///< in order
    time_point by;                ///< of all of it
  };
  /// Errors: bad_value (a rank that the plan does not have); nothing changes.
  result<admission> on_rejoin(const rejoin& order, time_point now);

  /// An edge to `peer` could not be made. If `cause` is `peer_gone` or `timeout`, the peer is at fault and becomes
  /// `unreached`. Any other cause is this rank's own fault and is not recorded.
  void on_unmade(rank_id peer, fault cause);
  /// The peer whose end was at fault last, since the start or the latest rejoin.
  std::optional<rank_id> unreached() const noexcept { return unreached_; }

  generation known(rank_id peer) const;           ///< the latest of the peer; 0: nothing is known of it
  generation begun(const lane_name& which) const; ///< the generation that has begun the lane; 0: none
  generation listed(rank_id peer) const { return listed_.at(peer.value); } ///< by roster and readmissions

private:
  friend class keeps_invariants<edge_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  void on_news(rank_id peer, generation born);

  rank_id self_;
  generation born_;
  recovery_deadlines waits_;
  epoch_fence fence_;
  std::string label_;
  bool is_front_ = false;
  std::set<lane_name> planned_;
  std::vector<generation> listed_; ///< by rank
  std::vector<generation> known_;  ///< by rank
  std::map<lane_name, generation> begun_;
  std::optional<rank_id> unreached_;
};

/// A new generation is started when the last process of the old one has been reaped, so the old writers of a rank's
/// memory have written their last by then. What they had handed to a network card may still arrive. Contract: K2.
constexpr bool bytes_may_arrive(bulk_lane over) noexcept {
  return over == bulk_lane::fabric;
}

} // namespace troupe::protocols
