#pragma once

#include <map>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/invariant.hpp"

namespace troupe::protocols {

/// Which messages are too old for their receiver: those that were sent before the loss of a rank that they speak of.
/// A generation fences the rank that was lost. It does not fence two ranks that stayed: one may order the other to lend
/// memory to a cell, the cell is lost, and the order arrives when the receiver has forgotten that cell already. The
/// order would then begin something with the cell's next generation, which knows nothing of it.
/// The epoch is a number of the job. The supervisor raises it with each loss of ranks, and every rank that stays learns
/// of it in the order `lost`. Each message carries the epoch of its sender at the moment of its decision.
/// Not refused: messages of an older epoch about ranks that were not lost since, since other cells' requests go on
/// during a recovery; messages of a later epoch, whose sender has merely learnt of a loss earlier than this rank.
/// Rejected: to refuse every message of another epoch. That would lose orders of requests that the loss does not touch,
/// since ranks learn of a loss at different moments.
/// Invariant, asserted before and after each event: no loss is of a later epoch than the present one.
/// Contract: D2, D8.
/// Threads: the owner's.
class epoch_fence {
public:
  /// `begun`: the epoch in which this process was started.
  explicit epoch_fence(cache_epoch begun) : begun_(begun), now_(begun) {}

  /// News may come twice or out of order: each rank keeps its latest loss. News of `begun` or before changes nothing.
  void on_lost(const lost& news);

  /// Whether a message that was sent in `sent_in` may still speak of `about`. Errors: stale_epoch.
  result<void> validate(cache_epoch sent_in, rank_id about) const;
  /// Whether a hello of `peer` may begin an edge in that epoch. Errors: stale_epoch (the peer was lost since, or this
  /// process is of a later epoch).
  result<void> validate_hello(cache_epoch begun_in, rank_id peer) const;

  cache_epoch current() const noexcept { return now_; }

private:
  friend class keeps_invariants<epoch_fence>;
  void check_invariants() const;
  void show_states(state_view& view) const;

  cache_epoch begun_;
  cache_epoch now_;
  std::map<rank_id, cache_epoch> lost_in_; ///< the latest loss of each rank since `begun_`
};

/// Whether a frame of epoch `frame` may go over an edge that began in epoch `edge`. An earlier one may not: it was
/// meant for the process that had the peer's place before. A later one may only if `spans_epochs`: both ends of the
/// edge can live on when other ranks are lost. Errors: stale_epoch.
result<void> validate_frame_epoch(cache_epoch edge, bool spans_epochs, cache_epoch frame);

} // namespace troupe::protocols
