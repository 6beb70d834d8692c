#include "protocols/serve/encode_machine.hpp"

#include <algorithm>

#include "protocols/mesh/places.hpp"

namespace troupe::protocols {

encode_machine::encode_machine(const cluster_plan& plan, cell_id cell, options bounds)
    : plan_(plan), cell_(plan.cell(cell)), bounds_(bounds), pixel_slots_(bounds.pixel_slots),
      row_slots_(bounds.row_slots) {}

encode_machine::effects encode_machine::start() {
  const keeps_invariants checked{*this};
  effects out;
  grant_free_pixels(out);
  return out;
}

// ---- pixels: this cell lends --------------------------------------------------------------------------------------

void encode_machine::grant_free_pixels(effects& out) {
  grant_pixels credits{.slots = {}, .born = bounds_.born};
  while (const auto slot = pixel_slots_.acquire())
    credits.slots.push_back(*slot);
  if (!credits.slots.empty())
    out.push_back(send_message{bounds_.front, std::move(credits)});
}

encode_machine::lent_pixels& encode_machine::pixels_of(room_id room) {
  auto& lent = pixels_[room];
  if (lent.arrived.empty())
    lent.arrived.assign(cell_.ranks.size(), false);
  return lent;
}

/// The tower does not read them, or not any more: the slot is lent again as soon as the front writes there no more, by
/// its word or because it has written on every rank (K2, K3).
void encode_machine::let_pixels_go(room_id room, effects& out) {
  const auto found = pixels_.find(room);
  if (found == pixels_.end())
    return;
  auto& lent = found->second;
  lent.over = true;
  if (!lent.slot || all(lent.arrived) || lent.word == word_of_front::settled) {
    if (lent.slot)
      TROUPE_ASSERT("K3", pixel_slots_.release(*lent.slot));
  } else if (lent.word == word_of_front::unsettled) {
    TROUPE_ASSERT("K3", pixel_slots_.fail(*lent.slot));
  } else {
    return;
  }
  pixels_.erase(found);
  grant_free_pixels(out);
}

encode_machine::effects encode_machine::on_pixels_returned(const pixels_returned& word) {
  const keeps_invariants checked{*this, word.room};
  effects out;
  const auto found = pixels_.find(word.room);
  if (found == pixels_.end() || found->second.word != word_of_front::none)
    return out;
  found->second.word = word.settled ? word_of_front::settled : word_of_front::unsettled;
  if (found->second.over)
    let_pixels_go(word.room, out);
  return out;
}

// ---- rooms --------------------------------------------------------------------------------------------------------

/// Null when the room has ended or no more can be parked: what came is dropped, the sender's deadline ends it there.
encode_machine::room_state* encode_machine::find_or_park(room_id id, time_point now) {
  if (ended_.retired(id.value))
    return nullptr;
  const auto found = rooms_.find(id);
  if (found != rooms_.end())
    return &found->second;
  if (rooms_.size() >= bounds_.rooms_max)
    return nullptr;
  auto& room = rooms_[id]; // whatever of it comes first arms its deadline (C33)
  room.deadline = now + bounds_.room_deadline;
  return &room;
}

encode_machine::effects encode_machine::on_encode(const encode& order, time_point now) {
  const keeps_invariants checked{*this, order.room};
  effects out;
  const auto refuse = [&](fault code, std::string what) {
    out.push_back(request_failed(cell_, bounds_.front, "encode", order.request, {code, std::move(what)}));
  };
  const bool of_another = std::any_of(pixels_.begin(), pixels_.end(), [&](const auto& each) {
    return each.first != order.room && each.second.slot == order.pixels;
  });
  if (of_another || !pixel_slots_.check(order.pixels)) { // another's, or nobody's: nothing of it is touched
    refuse(fault::stale_grant, "pixel slot " + std::to_string(order.pixels.slot.value));
    return out;
  }
  auto& lent = pixels_of(order.room);
  if (lent.slot)
    return out; // ordered twice: once is enough (D10)
  lent.slot = order.pixels;
  auto* const room = order.tokens <= bounds_.row_slot_tokens ? find_or_park(order.room, now) : nullptr;
  if (room == nullptr) {
    if (order.tokens > bounds_.row_slot_tokens)
      refuse(fault::no_memory,
             std::to_string(order.tokens) + " picture tokens; a slot holds " + std::to_string(bounds_.row_slot_tokens));
    else
      refuse(fault::timeout, "what came of the picture before its order has waited for timeouts.room_ms");
    let_pixels_go(order.room, out);
    return out;
  }
  out.push_back(send_message{bounds_.front, ack{order.request}});
  room->order = order;
  room->at = stage::ordered;
  room->deadline = now + bounds_.room_deadline;
  room->until = now + std::chrono::milliseconds{order.deadline_ms};
  order_.push_back(order.room);
  run_waiting(out);
  return out;
}

encode_machine::effects encode_machine::on_pixels(room_id id, std::uint32_t place, time_point now) {
  const keeps_invariants checked{*this, id};
  effects out;
  if (place >= cell_.ranks.size())
    return out;
  const bool known = pixels_.contains(id);
  if (!known && find_or_park(id, now) == nullptr)
    return out;
  auto& lent = pixels_of(id);
  lent.arrived[place] = true;
  if (lent.over)
    let_pixels_go(id, out);
  else
    run_waiting(out);
  return out;
}

/// First come, first served: a room whose pixels are missing holds back those behind it only until its deadline.
void encode_machine::run_waiting(effects& out) {
  for (auto next = order_.begin(); next != order_.end();) {
    const auto found = rooms_.find(*next);
    if (found == rooms_.end() || found->second.at != stage::ordered) {
      next = order_.erase(next);
      continue;
    }
    if (!all(pixels_of(found->first).arrived)) {
      ++next;
      continue;
    }
    const auto slot = row_slots_.acquire();
    if (!slot)
      return;
    auto& room = found->second;
    room.rows = *slot;
    room.at = stage::running;
    out.push_back(run_tower{room.order.request, tower_item{.room = found->first,
                                                           .pixels = room.order.pixels.slot,
                                                           .height = room.order.height,
                                                           .width = room.order.width,
                                                           .rows = slot->slot}});
    next = order_.erase(next);
  }
}

encode_machine::effects encode_machine::on_encoded(room_id id, time_point now) {
  const keeps_invariants checked{*this, id};
  effects out;
  const auto found = rooms_.find(id);
  if (found == rooms_.end())
    return out;
  let_pixels_go(id, out);
  auto& room = found->second;
  if (room.at == stage::ended) {
    let_go(found, out);
    return out;
  }
  room.at = stage::encoded;
  advance(found, out, now);
  return out;
}

// ---- rows: this rank writes ---------------------------------------------------------------------------------------

encode_machine::effects encode_machine::on_grant(rank_id from, const grant_rows& grant, time_point now) {
  const keeps_invariants checked{*this, grant.room};
  effects out;
  if (lost_.is_of_the_past(from, grant.born))
    return out;
  auto* const room = find_or_park(grant.room, now);
  if (room == nullptr || room->at == stage::ended) {
    give_back(from, grant.request, grant.room, out);
    return out;
  }
  if (room->grants.take(from, grant, now))
    advance(rooms_.find(grant.room), out, now);
  return out;
}

void encode_machine::give_back(rank_id to, request_id request, room_id room, effects& out, bool settled) {
  out.push_back(send_message{to, rows_returned{request, room, settled}});
}

void encode_machine::advance(room_iterator found, effects& out, time_point now) {
  auto& room = found->second;
  const auto& grants = room.grants.by_part();
  if (room.at != stage::encoded || grants.empty())
    return;
  if (grants.size() < grants.begin()->second.what.parts)
    return; // nothing is shipped before all receivers have granted (I15, I38)
  if (auto problem = validate_grants(room, now)) {
    fail_room(found, *problem, out);
    return;
  }
  ship(found, out);
}

/// All receivers must describe the room as we do: each part whole, the parts those of one cell (I11, I13, I18,
/// I19). Ranks that were told different shapes are found here, before anything is written or run (G15).
std::optional<failure> encode_machine::validate_grants(const room_state& room, time_point now) const {
  const auto& receivers = plan_.cell(room.order.prefill_cell);
  for (const auto& [part, held] : room.grants.by_part()) {
    const auto& grant = held.what;
    const auto where = "grant of part " + std::to_string(part);
    if (part >= receivers.ranks.size() || grant.parts != receivers.ranks.size() || receivers.ranks[part] != held.from)
      return failure{fault::span_mismatch, where + ": not a rank of the prefill cell"};
    if (grant.first_row != 0 || grant.rows != room.order.tokens)
      return failure{fault::span_mismatch, where + ": rows " + std::to_string(grant.first_row) + ".." +
                                               std::to_string(grant.first_row + grant.rows) + ", the picture has " +
                                               std::to_string(room.order.tokens)};
    if (grant.row_elements != bounds_.row_elements || grant.dtype != element_type::f32)
      return failure{fault::span_mismatch, where + ": rows of " + std::to_string(grant.row_elements) +
                                               " elements, the tower gives " + std::to_string(bounds_.row_elements) +
                                               " of f32"};
    if (auto holds = check_lease(held.under, grant.born, now); !holds)
      return failure{holds.error().code, where + ": " + holds.error().what};
  }
  return std::nullopt;
}

void encode_machine::ship(room_iterator found, effects& out) {
  auto& room = found->second;
  room.at = stage::writing;
  for (auto& [part, held] : room.grants.by_part()) {
    held.at = row_grants::writing::on_its_way;
    out.push_back(write_rows{.room = found->first,
                             .part = part,
                             .to = held.from,
                             .rows_at = room.rows->slot,
                             .target = held.what.slot,
                             .rows = held.what.rows,
                             .under = held.under});
  }
}

/// Also for a write that was refused at once, its peer or region not being attached: the room fails, and the next one
/// may go well (C30, C49).
encode_machine::effects encode_machine::on_written(room_id id, std::uint32_t part, const result<void>& outcome,
                                                   time_point) {
  const keeps_invariants checked{*this, id};
  effects out;
  const auto found = rooms_.find(id);
  if (found == rooms_.end())
    return out;
  auto& room = found->second;
  const auto* const held = room.grants.on_written(part, outcome.has_value());
  if (held == nullptr)
    return out;
  if (!outcome) {
    const bool settled = !may_still_arrive(outcome.error().code);
    room.unsettled |= !settled;
    give_back(held->from, room.order.request, id, out, settled);
    fail_room(found, {outcome.error().code, "rows to part " + std::to_string(part) + ": " + outcome.error().what}, out);
  } else {
    if (held->revoked)
      give_back(held->from, room.order.request, id, out);
    if (!in_use(room))
      let_go(found, out);
  }
  return out;
}

encode_machine::effects encode_machine::on_revoke(rank_id from, const revoke_rows& word) {
  const keeps_invariants checked{*this, word.room};
  effects out;
  using enum row_grants::revocation;
  const auto found = rooms_.find(word.room);
  const auto how = found == rooms_.end() ? was_over : found->second.grants.on_revoke(from);
  if (how == waits)
    return out;
  give_back(from, word.request, word.room, out);
  if (how == unused)
    abandon(found, out);
  return out;
}

encode_machine::effects encode_machine::on_lost(const lost& news) {
  const keeps_invariants checked{*this};
  effects out;
  lost_.on_lost(news);
  for (auto each = rooms_.begin(); each != rooms_.end();) {
    const auto current = each++;
    if (current->second.grants.on_lost(news.ranks))
      abandon(current, out);
  }
  return out;
}

// ---- ends ---------------------------------------------------------------------------------------------------------

/// The tower or a write still uses what the room holds.
bool encode_machine::in_use(const room_state& room) {
  return room.in_tower || room.grants.any_on_its_way();
}

/// Ends this room and no other, once (C29). Tells the front, which tells everybody else.
void encode_machine::fail_room(room_iterator found, const failure& cause, effects& out) {
  auto& room = found->second;
  if (room.at != stage::ended && room.order.request.value != 0)
    out.push_back(request_failed(cell_, bounds_.front, "encode", room.order.request, cause));
  abandon(found, out);
}

/// Nothing more is begun for the room; what the tower or a write still uses is kept until they are done.
void encode_machine::abandon(room_iterator found, effects& out) {
  auto& room = found->second;
  if (room.at == stage::parked || room.at == stage::ordered)
    let_pixels_go(found->first, out);
  room.in_tower = room.in_tower || room.at == stage::running;
  room.at = stage::ended;
  room.grants.end_unused([&](const auto& grant) { give_back(grant.from, grant.what.request, found->first, out); });
  if (!in_use(room))
    let_go(found, out);
}

void encode_machine::let_go(room_iterator found, effects& out) {
  auto& room = found->second;
  if (room.rows) // an aborted write may still read it
    TROUPE_ASSERT("K3", room.unsettled ? row_slots_.fail(*room.rows) : row_slots_.release(*room.rows));
  ended_.retire(found->first.value);
  rooms_.erase(found);
  run_waiting(out);
}

encode_machine::effects encode_machine::on_cancel(request_id request, time_point) {
  const keeps_invariants checked{*this};
  effects out;
  for (auto each = rooms_.begin(); each != rooms_.end();) {
    const auto current = each++;
    auto& room = current->second;
    if (room.order.request == request && room.at != stage::ended && room.at != stage::parked)
      abandon(current, out);
  }
  return out;
}

encode_machine::effects encode_machine::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  pixel_slots_.tick(now);
  row_slots_.tick(now);
  grant_free_pixels(out);
  for (auto each = rooms_.begin(); each != rooms_.end();) {
    const auto current = each++;
    if (const auto* const late = what_is_late(current->first, current->second, now))
      fail_room(current, failure{fault::timeout, late}, out);
  }
  run_waiting(out);
  return out;
}

/// Null: nothing, or nothing that a deadline of this machine ends (the tower has the watchdog's, a write its own).
const char* encode_machine::what_is_late(room_id id, const room_state& room, time_point now) {
  switch (room.at) {
  case stage::parked:
    return now >= room.deadline ? "the order has not arrived within timeouts.room_ms" : nullptr;
  case stage::ordered:
    if (!all(pixels_of(id).arrived))
      return now >= room.deadline ? "the pixels have not arrived within timeouts.room_ms" : nullptr;
    return now >= room.until ? "the tower had no turn within the request's time" : nullptr;
  case stage::encoded:
    return now >= room.until ? "a receiver has not granted its rows within the request's time" : nullptr;
  case stage::running:
  case stage::writing:
  case stage::ended:
    break;
  }
  return nullptr;
}

// ---- invariants ---------------------------------------------------------------------------------------------------

void encode_machine::check_invariants() const {
  TROUPE_ASSERT("E20", rooms_.size() <= bounds_.rooms_max);
  std::uint32_t rows = 0;
  for (const auto& [id, room] : rooms_) {
    const bool waits = room.at == stage::parked || room.at == stage::ordered;
    const bool computed = room.at == stage::running || room.at == stage::encoded || room.at == stage::writing;
    TROUPE_ASSERT("E16", room.rows ? !waits : !computed);
    TROUPE_ASSERT("K1", room.at == stage::writing || room.at == stage::ended || !room.grants.any_on_its_way());
    TROUPE_ASSERT("C29", room.at != stage::ended || in_use(room));
    rows += room.rows ? 1 : 0;
  }
  TROUPE_ASSERT("K3", rows == row_slots_.lent());
  std::uint32_t used = 0;
  for (const auto& [id, lent] : pixels_)
    used += lent.slot ? 1 : 0;
  TROUPE_ASSERT("K3", used <= pixel_slots_.lent());
}

} // namespace troupe::protocols
