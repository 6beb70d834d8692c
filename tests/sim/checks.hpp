#pragma once

#include <map>
#include <set>
#include <string_view>
#include <tuple>

#include "protocols/cluster/first_cause_machine.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/transfers/lease.hpp"
#include "tests/sim/history.hpp"
#include "tests/sim/memory.hpp"
#include "tests/sim/process.hpp"

namespace troupe::sim {

class world;

/// Judges what the machines do to each other, from what is seen of it and not from what they say of themselves.
class checks {
public:
  checks(world& all, bool late) : all_(all), late_ever_(late) {}

  /// Bytes of `room` land. Breach: the slot has been granted to another room since.
  void on_landing(protocols::rank_id from, protocols::rank_id to, protocols::generation born, area where,
                  const sim_region& region, std::uint64_t offset, std::uint64_t bytes, protocols::room_id room);
  /// The front uses a credit for the room: the slot of that encode rank is the room's.
  void on_pixels_lent(protocols::rank_id owner, protocols::generation born, protocols::slot_index slot,
                      protocols::room_id room);
  /// A piece is copied, or an operation posted. Breach: the right to write has ended, or the source is another room's.
  void on_writing(const process& from, protocols::room_id room, const protocols::lease& under,
                  protocols::time_point deadline, protocols::generation owner_now, bool told_gone);
  void on_reading(const process& from, area where, std::uint64_t offset, protocols::room_id room);
  /// Writes of a room by one rank: how many were posted, and how many have arrived by its engine's word.
  void on_posted(protocols::rank_id from, protocols::room_id room) { ++writes_[{from, room}].first; }
  void on_delivered(protocols::rank_id from, protocols::room_id room) { ++writes_[{from, room}].second; }
  /// Breach: it says that all was sent.
  void on_sent_word(const process& from, protocols::room_id room);
  bool was_hurt(protocols::rank_id rank) const { return hurt_.contains(rank); }
  /// There is no lane for a message. Breach: both ranks serve, and nobody is being started again.
  void on_no_lane(const process& from, protocols::rank_id to);
  /// A rank that stayed is to admit newcomers. Breach: it has not heard of the loss that they come after.
  void on_admits(const process& by, protocols::generation newcomers, protocols::generation heard_of);
  /// A message that `validate_message` refuses: no machine of a rank says what its role may not say.
  void on_refused(process& at, protocols::rank_id from, const protocols::serve_message& body,
                  const protocols::failure& why);
  /// A message that the routes let through, and no machine takes.
  void on_unheard(process& at, protocols::rank_id from, std::string_view type);

  /// The supervisor names whose failure a loss was. Breach: nothing has befallen that rank, nor one that its words
  /// name.
  void on_blamed(const protocols::first_cause& cause);
  /// Ranks are started again. Breach: their cell has failed more often than the spec allows.
  void on_restarted(protocols::rank_id rank);
  /// Ranks are lost. Breach: one of them runs on.
  void on_lost(const protocols::lost& news);
  /// Something was done to the rank that may end it, or make others end.
  void on_hurt(protocols::rank_id rank);
  void on_killed(protocols::rank_id rank);

private:
  world& all_;
  const bool late_ever_;                                     ///< of the weather: any frame or hop may be late
  std::map<protocols::rank_id, protocols::generation> hurt_; ///< the newest process to which something was done
  std::set<protocols::rank_id> killed_;
  std::map<protocols::cell_id, std::vector<protocols::time_point>> blamed_; ///< cells whose ranks are of no other
  std::map<std::pair<protocols::rank_id, protocols::room_id>, std::pair<int, int>> writes_;
  std::map<std::tuple<protocols::rank_id, protocols::generation, protocols::slot_index>, protocols::room_id> pixels_;
};

} // namespace troupe::sim
