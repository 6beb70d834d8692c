#pragma once

#include <deque>
#include <map>
#include <optional>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/invariant.hpp"
#include "protocols/serve/mesh_plan.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/time.hpp"
#include "protocols/transfers/held_grants.hpp"
#include "protocols/transfers/lease.hpp"
#include "protocols/transfers/slot_pool_machine.hpp"

namespace troupe::protocols {

/// Leader of an encode cell: pixels in, tower, embedding rows out to every rank of the prefill cell.
///
/// What arrives in any order is parked by room: the order to encode, the pixels on each rank of the cell, the grants of
/// the receivers. The tower runs as soon as order and pixels are here; the rows are written once all receivers have
/// granted, and only if their grants say the same of the room as we do (a one-sided write checks nothing).
///
/// The pixel slots are this cell's to lend: the front writes there. The slots of the rows are lent to this rank: it
/// begins no write under a lease that has ended, and tells the owner when it will begin none any more.
///
/// Contract: C29, C30, C33, C34, C48, C49, E21, I4, I9, I13, I14, I15, I18, I19, I22, I30, K1, K2, K3.
/// Threads: the encode actor's.
class encode_machine {
public:
  struct options {
    rank_id front;
    generation born = {};          ///< of this rank
    std::uint32_t pixel_slots = 0; ///< of each rank of the cell, symmetric
    std::uint32_t row_slots = 0;   ///< send ring of the leader
    std::uint32_t row_elements = 0;
    std::uint32_t row_slot_tokens = 0; ///< tokens that one slot holds
    duration room_deadline{};
    std::uint32_t rooms_max = 0; ///< parked and running
  };

  /// Run the tower over the pixels on every rank of the cell; the leader's rows go to `item.rows`.
  struct run_tower {
    request_id request;
    tower_item item;
    bool operator==(const run_tower&) const = default;
  };
  /// Write `rows` rows from send slot `rows_at` to the granted slot of `to`, completion data = room.
  struct write_rows {
    room_id room;
    std::uint32_t part = 0;
    rank_id to;
    slot_index rows_at;
    slot_ref target;
    std::uint32_t rows = 0;
    lease under; ///< of the target
    bool operator==(const write_rows&) const = default;
  };
  using effect = std::variant<send_message, run_tower, write_rows>;
  using effects = std::vector<effect>;

  encode_machine(const cluster_plan& plan, cell_id cell, options bounds);

  /// Once at ready: the front gets its credits.
  effects start();
  effects on_encode(const encode& order, time_point now);
  /// Pixels of `room` are on the rank at `place` of the cell.
  effects on_pixels(room_id room, std::uint32_t place, time_point now);
  /// The front writes no more into the slot of this room.
  effects on_pixels_returned(const pixels_returned& word);
  effects on_grant(rank_id from, const grant_rows& grant, time_point now);
  effects on_revoke(rank_id from, const revoke_rows& word);
  effects on_lost(const lost& news);
  effects on_encoded(room_id room, time_point now);
  effects on_written(room_id room, std::uint32_t part, const result<void>& outcome, time_point now);
  effects on_cancel(request_id request, time_point now);
  effects on_tick(time_point now);

  std::size_t rooms() const noexcept { return rooms_.size(); }
  /// No picture is here, and every slot is free or with the front as a credit.
  bool at_rest() const noexcept {
    return rooms_.empty() && pixels_.empty() && row_slots_.available() == row_slots_.size() &&
           pixel_slots_.resting() == 0;
  }
  bool ended(room_id room) const noexcept { return ended_.retired(room.value); }
  bool knows(room_id room) const noexcept { return rooms_.contains(room); }
  /// Credits with the front, or in use, and resting; all that there are, after every event (K3).
  std::uint32_t pixel_slots_lent() const noexcept { return pixel_slots_.size() - pixel_slots_.available(); }

private:
  friend class keeps_invariants<encode_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  enum class stage {
    parked,  ///< something arrived before the order did
    ordered, ///< waits for pixels or a send slot
    running, ///< in the tower
    encoded, ///< rows are in the send slot; waits for grants
    writing, ///< one-sided writes are on their way
    ended,   ///< cancelled or failed while the tower or a write still uses its slots
  };
  enum class word_of_front { none, settled, unsettled };
  struct lent_pixels {
    std::optional<slot_ref> slot; ///< none: the order has not come
    std::vector<bool> arrived;    ///< by place in the cell
    word_of_front word = word_of_front::none;
    bool over = false; ///< the tower will not read them (any more)
  };
  using row_grants = held_grants<grant_rows>;
  struct room_state {
    stage at = stage::parked;
    encode order;
    time_point deadline; ///< for what others send
    time_point until;    ///< of the request
    row_grants grants;
    std::optional<slot_ref> rows;
    bool in_tower = false;  ///< ended while the tower runs
    bool unsettled = false; ///< an aborted write may still read `rows`
  };
  using room_iterator = std::map<room_id, room_state>::iterator;

  lent_pixels& pixels_of(room_id room);
  void grant_free_pixels(effects& out);
  void let_pixels_go(room_id room, effects& out);
  room_state* find_or_park(room_id id, time_point now);
  void run_waiting(effects& out);
  static void give_back(rank_id to, request_id request, room_id room, effects& out, bool settled = true);
  static bool in_use(const room_state& room);
  void advance(room_iterator room, effects& out, time_point now);
  void ship(room_iterator room, effects& out);
  std::optional<failure> validate_grants(const room_state& room, time_point now) const;
  const char* what_is_late(room_id id, const room_state& room, time_point now);
  void fail_room(room_iterator room, const failure& cause, effects& out);
  void abandon(room_iterator room, effects& out);
  void let_go(room_iterator room, effects& out);

  const cluster_plan& plan_;
  const cell_plan& cell_;
  options bounds_;
  slot_pool_machine pixel_slots_;
  slot_pool_machine row_slots_;
  std::map<room_id, lent_pixels> pixels_;
  std::map<room_id, room_state> rooms_;
  lost_owners lost_;
  std::deque<room_id> order_; ///< ordered rooms that have not entered the tower, first come first served
  tombstones ended_;
};

/// Every other rank of an encode cell. The front writes the same pixels to each rank, and the tower runs on all of them
/// at once, so the leader must hear from each that its copy is whole. Nothing else is asked of these ranks: what is
/// lent to the front is the leader's to lend and to take back. Contract: I4, I12. Threads: the encode actor's.
class encode_member_machine {
public:
  using effect = std::variant<send_message>;
  using effects = std::vector<effect>;

  explicit encode_member_machine(const cell_plan& cell) : cell_(cell) {}

  /// Pixels of `room` are here. Again: the leader knows what it has heard.
  effects on_pixels(room_id room) const { return {send_message{cell_.leader(), arrived{request_id{}, room}}}; }

private:
  const cell_plan& cell_;
};

} // namespace troupe::protocols
