#pragma once

#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/own_time.hpp"

namespace troupe::protocols {

/// What a rank has lent of its memory, room by room, and who may still write into it.
///
/// The naive rule is a timer: memory rests for so long after a request has ended, then it is lent again. But a writer
/// that was stopped, or stands in a queue, knows nothing of the timer, and writes into the next tenant. So memory is
/// lent again when each of its writers has written (it writes once), has said that it begins nothing more, or is gone:
/// its process has been reaped, and with it the right to write. Silence is not gone. Time counts in one case only:
/// where bytes that were handed to a network card or a device may still arrive. They rest for `limits::slot_quarantine`
/// of this rank's own time.
///
/// Contract: K1, K2, K3, I24.
/// Threads: the owner's.
class lent_rooms {
public:
  void lend(request_id request, room_id room, const std::vector<rank_id>& writers);
  /// `from` has written all that it had to write. False: nothing was lent to it under this room, or it has ended.
  bool on_landed(room_id room, rank_id from);
  /// `from` begins nothing more. The first word of a room counts.
  void on_returned(room_id room, rank_id from, bool settled);
  /// Processes of these ranks have ended or are about to: nothing they say counts any more, only that they are gone.
  void on_lost(std::span<const rank_id> ranks);
  /// They have been reaped. `bytes_may_arrive`: what a network card had taken is still on its way.
  void on_gone(std::span<const rank_id> ranks, bool bytes_may_arrive);
  /// The request is over. Who has not written yet is to be asked to return: room and writer. Repeating it is harmless.
  std::vector<std::pair<room_id, rank_id>> end(request_id request);
  void on_tick(time_point now);

  /// Requests that are over and into whose rooms nobody can write any more; each once.
  std::vector<request_id> take_quiet();

  bool knows(room_id room) const noexcept { return rooms_.contains(room); }
  request_id request_of(room_id room) const { return rooms_.at(room).request; }
  bool may_be_written(room_id room) const { return knows(room) && !rooms_.at(room).writers.empty(); }
  std::size_t size() const noexcept { return rooms_.size(); }

private:
  enum class state {
    holds, ///< may write
    lost,  ///< ends with its process
    rests, ///< what it had begun may still arrive, until `until`
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
