#include <algorithm>
#include <utility>

#include "protocols/serve/front_machine.hpp"
#include "protocols/transfers/lease.hpp"

/// How an attempt ends: what its cells and its pictures held is free again, and the request goes back or ends.
namespace troupe::protocols {

namespace {

template <class Cells>
auto find_cell(Cells& cells, cell_id id) {
  return std::find_if(cells.begin(), cells.end(), [&](const auto& each) { return each.id == id; });
}

} // namespace

/// From here on only decode can fail the attempt (C46).
void front_machine::leave_prefill(entry& attempt) {
  if (attempt.prefill) {
    const auto needed = needs_of(attempt.of.what);
    auto& cell = *find_cell(prefill_cells_, *attempt.prefill);
    cell.blocks -= needed.prefill_blocks;
    cell.rows -= needed.pictures;
  }
  attempt.prefill.reset();
  attempt.encode.clear();
}

/// `tell`: its encode cells are to hear when nothing more is written for it.
void front_machine::leave_pictures(request_id attempt, bool tell, effects& out) {
  for (auto each = staged_.begin(); each != staged_.end();) {
    const auto current = each++;
    if (current->second.attempt != attempt)
      continue;
    current->second.over = true;
    current->second.tell_cell = tell;
    leave_if_over(current, out);
  }
}

void front_machine::leave_if_over(std::map<room_id, staged>::iterator which, effects& out) {
  const auto& one = which->second;
  if (!one.over || one.writes_left > 0)
    return;
  if (one.tell_cell && !one.cell_lost)
    out.push_back(
        send_message{plan_.cell(one.encode_cell).leader(), pixels_returned{one.attempt, which->first, one.settled}});
  staged_.erase(which);
}

/// The cells have the attempt no more; with a cause they may still hold something of it, and let go (C15, F13).
void front_machine::leave_cells(started_iterator which, const std::optional<failure>& cause, effects& out) {
  auto& attempt = which->second;
  std::vector<cell_id> cells = attempt.encode;
  std::sort(cells.begin(), cells.end());
  cells.erase(std::unique(cells.begin(), cells.end()), cells.end());
  if (attempt.prefill)
    cells.push_back(*attempt.prefill);
  cells.push_back(attempt.decode);
  leave_prefill(attempt);
  find_cell(decode_cells_, attempt.decode)->blocks -= needs_of(attempt.of.what).decode_blocks;
  if (!cause)
    return;
  for (const auto cell : cells)
    out.push_back(send_message{plan_.cell(cell).leader(), cancel{which->first, to_string(*cause)}});
  leave_pictures(which->first, true, out);
}

void front_machine::end(started_iterator which, finish_reason reason, std::optional<failure> cause, effects& out) {
  leave_cells(which, cause, out);
  out.push_back(end_request{which->second.of.what.id, reason, std::move(cause)});
  started_.erase(which);
  finish_drain(out);
}

/// What has said nothing yet may be served anew, from the place in the queue that it had (D6, D7).
void front_machine::retry_or_end(started_iterator which, const failure& cause, time_point now, duration pause,
                                 effects& out) {
  auto& one = which->second;
  const bool again =
      one.next_index == 0 && one.of.attempts < limits::request_attempts_max && now < one.of.deadline && !drain_until_;
  if (!again) // what its cells say at its deadline, they say because of it
    return end(which, finish_reason::failed, now < one.of.deadline ? cause : late(one.of), out);
  leave_cells(which, cause, out);
  auto back = std::move(one.of);
  back.not_before = now + pause;
  started_.erase(which);
  const auto place =
      std::find_if(waiting_.begin(), waiting_.end(), [&](const queued& other) { return other.place > back.place; });
  waiting_.insert(place, std::move(back));
}

front_machine::effects front_machine::on_pixels_written(room_id room, write_end how, const failure& cause,
                                                        time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  const auto which = staged_.find(room);
  if (which == staged_.end() || which->second.writes_left == 0)
    return out;
  auto& one = which->second;
  const auto attempt = one.attempt;
  const bool lingers = how == write_end::failed && may_still_arrive(cause.code);
  one.settled = one.settled && !lingers;
  if (--one.writes_left == 0) {
    TROUPE_ASSERT("K3", one.settled ? staging_.release(*one.slot) : staging_.fail(*one.slot));
    one.slot.reset();
  }
  leave_if_over(which, out);
  if (how != write_end::delivered)
    if (const auto found = started_.find(attempt); found != started_.end() && found->second.next_index == 0)
      retry_or_end(found, cause, now, limits::retry_pause, out);
  admit(out, now);
  return out;
}

// ---- invariants ---------------------------------------------------------------------------------------------------

/// On the way of each token: additions over what is under way, and no allocation. `audit` looks closer.
void front_machine::check_invariants() const {
  TROUPE_ASSERT("E1",
                started_.size() <= bounds_.in_flight_max && waiting_.size() <= 2 * std::size_t{bounds_.in_flight_max});
  std::uint64_t blocks = 0;
  std::uint64_t rows = 0;
  for (const auto& [attempt, one] : started_) {
    const auto needed = needs_of(one.of.what);
    blocks += needed.decode_blocks + (one.prefill ? needed.prefill_blocks : 0);
    rows += one.prefill ? needed.pictures : 0;
    TROUPE_ASSERT("C46", one.next_index == 0 || (!one.prefill && one.encode.empty()));
  }
  std::uint64_t counted_blocks = 0;
  std::uint64_t counted_rows = 0;
  for (const auto* const cells : {&prefill_cells_, &decode_cells_})
    for (const auto& cell : *cells) {
      counted_blocks += cell.blocks;
      counted_rows += cell.rows;
      TROUPE_ASSERT("K3",
                    cell.blocks <= bounds_.kv_tokens_max / limits::kv_block_tokens && cell.rows <= bounds_.row_slots);
    }
  TROUPE_ASSERT("K3", blocks == counted_blocks && rows == counted_rows);
  for (const auto& cell : encode_cells_)
    TROUPE_ASSERT("K3", cell.credits.size() <= bounds_.pixel_slots);
  std::uint32_t lent = 0;
  for (const auto& [room, one] : staged_) {
    TROUPE_ASSERT("K3", one.slot.has_value() == (one.writes_left > 0));
    lent += one.slot ? 1 : 0;
  }
  TROUPE_ASSERT("K3", lent == staging_.lent());
}

} // namespace troupe::protocols
