#pragma once

#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/invariant.hpp"
#include "protocols/own_time.hpp"

namespace troupe::protocols {

/// The memory that a rank has lent, room by room, and the ranks that may still write into it.
///
/// The naive rule is a timer: memory stays unused (rests) for a fixed time after its request has ended, then it is lent
/// again. But a writer that was stopped, or stands in a queue, knows nothing of the timer, and writes into the next
/// tenant. So memory is lent again when each of its writers has written (it writes once), has returned the memory, or
/// has been reaped as a process. A silent writer may still write. Time counts in one case only: a network card or a
/// device may still deliver bytes that it has accepted. The memory then rests for `limits::slot_quarantine`, counted in
/// time in which this rank itself ran (own_time.hpp).
///
/// Contract: K1, K2, K3, I24.
/// Threads: the owner's.
class lent_rooms {
public:
  void lend(request_id request, room_id room, const std::vector<rank_id>& writers);
  /// `from` has written all that it had to write. False: `from` holds nothing of this room, or its memory rests.
  bool on_arrived(room_id room, rank_id from);
  /// `from` will begin no further write. Only the first return of a room counts. `settled`: no bytes can arrive;
  /// otherwise the memory rests first.
  void on_returned(room_id room, rank_id from, bool settled);
  /// The processes of these ranks have ended or are about to. A return from them counts no more; `on_gone` does, and so
  /// does a write that arrives.
  void on_lost(std::span<const rank_id> ranks);
  /// The processes have been reaped. `bytes_may_arrive`: a network card may still deliver what it has accepted.
  void on_gone(std::span<const rank_id> ranks, bool bytes_may_arrive);
  /// The request is over. Returns room and writer of each grant to be revoked. May be called again.
  std::vector<std::pair<room_id, rank_id>> end(request_id request);
  void on_tick(time_point now);

  /// Requests that are over and into whose rooms nobody can write any more; each once.
  std::vector<request_id> take_quiet();

  bool at_rest() const noexcept { return rooms_.empty() && over_.empty(); }
  bool knows(room_id room) const noexcept { return rooms_.contains(room); }
  bool may_be_written(room_id room) const { return knows(room) && !rooms_.at(room).writers.empty(); }

private:
  friend class keeps_invariants<lent_rooms>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  enum class state {
    holds, ///< may write
    lost,  ///< its right to write ends when its process is reaped
    rests, ///< bytes of its write may still arrive, until `until`
  };
  struct writer {
    state at = state::holds;
    duration until{}; ///< own time
  };
  struct room_state {
    request_id request;
    std::map<rank_id, writer> writers; ///< those that can still write
  };

  writer* find(room_id room, rank_id from);
  void rest(writer& one) const;

  own_time time_;
  std::map<room_id, room_state> rooms_;
  std::set<request_id> over_; ///< ended, not yet taken as quiet
};

} // namespace troupe::protocols
