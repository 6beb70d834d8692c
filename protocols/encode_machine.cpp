#include "protocols/encode_machine.hpp"

#include <algorithm>

namespace troupe::protocols {

encode_machine::encode_machine(const cluster_plan& plan, cell_id cell, options bounds)
    : plan_(plan), cell_(plan.cell(cell)), bounds_(bounds), pixel_slots_(bounds.pixel_slots),
      row_slots_(bounds.row_slots) {}

encode_machine::effects encode_machine::start() {
  effects out;
  grant_pixels credits{.slots = {}, .born = bounds_.born};
  while (const auto slot = pixel_slots_.acquire())
    credits.slots.push_back(*slot);
  out.push_back(send_message{bounds_.front, std::move(credits)});
  return out;
}

/// Null when the room has ended or no more can be parked: what came is dropped, the sender's deadline ends it there.
encode_machine::room_state* encode_machine::find_or_park(room_id id, time_point now) {
  if (ended_.buried(id.value))
    return nullptr;
  const auto found = rooms_.find(id);
  if (found != rooms_.end())
    return &found->second;
  if (rooms_.size() >= bounds_.rooms_max)
    return nullptr;
  auto& room = rooms_[id]; // whatever of it comes first arms its deadline (C33)
  room.deadline = now + bounds_.room_deadline;
  room.pixels.assign(cell_.ranks.size(), false);
  return &room;
}

encode_machine::effects encode_machine::on_encode(const encode& order, time_point now) {
  effects out;
  const auto refuse = [&](fault code, std::string what) {
    out.push_back(request_failed(cell_, bounds_.front, "encode", order.request, {code, std::move(what)}));
    return out;
  };
  if (!pixel_slots_.check(order.pixels))
    return refuse(fault::stale_grant, "pixel slot " + std::to_string(order.pixels.slot.value));
  if (order.tokens > bounds_.row_slot_tokens)
    return refuse(fault::no_memory, std::to_string(order.tokens) + " picture tokens; a slot holds " +
                                        std::to_string(bounds_.row_slot_tokens));
  auto* const room = find_or_park(order.room, now);
  if (room == nullptr || room->at != stage::parked)
    return out; // ended before, or ordered twice: once is enough (D10)
  out.push_back(send_message{bounds_.front, ack{order.request}});
  room->order = order;
  room->at = stage::ordered;
  order_.push_back(order.room);
  run_waiting(out, now);
  return out;
}

encode_machine::effects encode_machine::on_pixels(room_id id, std::uint32_t place, time_point now) {
  effects out;
  if (auto* const room = find_or_park(id, now); room != nullptr && place < room->pixels.size()) {
    room->pixels[place] = true;
    run_waiting(out, now);
  }
  return out;
}

encode_machine::effects encode_machine::on_grant(rank_id from, const grant_rows& grant, time_point now) {
  effects out;
  auto* const room = find_or_park(grant.room, now);
  if (room == nullptr || room->at == stage::ended || room->grants.contains(grant.part))
    return out;
  room->grants.emplace(grant.part, grant);
  room->granters.emplace(grant.part, from);
  room->leases.emplace(grant.part, lease{grant.born, now + std::chrono::milliseconds{grant.valid_ms}});
  advance(rooms_.find(grant.room), out, now);
  return out;
}

/// First come, first served: a room whose pixels are missing holds back those behind it only until its deadline.
void encode_machine::run_waiting(effects& out, time_point) {
  for (auto next = order_.begin(); next != order_.end();) {
    const auto found = rooms_.find(*next);
    if (found == rooms_.end() || found->second.at != stage::ordered) {
      next = order_.erase(next);
      continue;
    }
    auto& room = found->second;
    if (!std::all_of(room.pixels.begin(), room.pixels.end(), [](bool here) { return here; })) {
      ++next;
      continue;
    }
    const auto slot = row_slots_.acquire();
    if (!slot)
      return;
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
  effects out;
  const auto found = rooms_.find(id);
  if (found == rooms_.end())
    return out;
  auto& room = found->second;
  return_pixels(room, out, false, now);
  if (room.at == stage::ended) {
    let_go(found, out, now);
    return out;
  }
  room.at = stage::encoded;
  advance(found, out, now);
  return out;
}

void encode_machine::return_pixels(const room_state& room, effects& out, bool suspect, time_point now) {
  if (suspect) // a write may still be on its way: the slot rests before its next tenant (I24)
    (void)pixel_slots_.fail(room.order.pixels, now);
  else
    (void)pixel_slots_.release(room.order.pixels);
  if (const auto slot = pixel_slots_.acquire())
    out.push_back(send_message{bounds_.front, grant_pixels{.slots = {*slot}, .born = bounds_.born}});
}

void encode_machine::advance(room_iterator found, effects& out, time_point now) {
  auto& room = found->second;
  if (room.at != stage::encoded || room.grants.empty())
    return;
  if (room.grants.size() < room.grants.begin()->second.parts)
    return; // nothing is shipped before all receivers have granted (I15, I38)
  if (auto problem = judge_grants(room)) {
    fail_room(found, *problem, out, now);
    return;
  }
  ship(found, out, now);
}

/// All receivers must describe the room as we do: each part whole, the parts those of one cell (I11, I13, I18,
/// I19). Ranks that were told different shapes are found here, before anything is written or run (G15).
std::optional<failure> encode_machine::judge_grants(const room_state& room) const {
  const auto& receivers = plan_.cell(room.order.prefill_cell);
  for (const auto& [part, grant] : room.grants) {
    const auto where = "grant of part " + std::to_string(part);
    if (part >= receivers.ranks.size() || grant.parts != receivers.ranks.size() ||
        receivers.ranks[part] != room.granters.at(part))
      return failure{fault::span_mismatch, where + ": not a rank of the prefill cell"};
    if (grant.first_row != 0 || grant.rows != room.order.tokens)
      return failure{fault::span_mismatch, where + ": rows " + std::to_string(grant.first_row) + ".." +
                                               std::to_string(grant.first_row + grant.rows) + ", the picture has " +
                                               std::to_string(room.order.tokens)};
    if (grant.row_elements != bounds_.row_elements || grant.dtype != element_type::f32)
      return failure{fault::span_mismatch, where + ": rows of " + std::to_string(grant.row_elements) +
                                               " elements, the tower gives " + std::to_string(bounds_.row_elements) +
                                               " of f32"};
  }
  return std::nullopt;
}

void encode_machine::ship(room_iterator found, effects& out, time_point) {
  auto& room = found->second;
  room.at = stage::writing;
  room.writes_left = static_cast<std::uint32_t>(room.grants.size());
  for (const auto& [part, grant] : room.grants)
    out.push_back(write_rows{.room = found->first,
                             .part = part,
                             .to = room.granters.at(part),
                             .rows_at = room.rows->slot,
                             .target = grant.slot,
                             .rows = grant.rows,
                             .under = room.leases.at(part)});
}

/// Also for a write that was refused at once, its peer or region not being attached: the room fails, and the next one
/// may go well (C30, C49).
encode_machine::effects encode_machine::on_written(room_id id, std::uint32_t part, const result<void>& outcome,
                                                   time_point now) {
  effects out;
  const auto found = rooms_.find(id);
  if (found == rooms_.end() || found->second.writes_left == 0)
    return out;
  auto& room = found->second;
  --room.writes_left;
  if (!outcome) {
    room.write_failed = true;
    if (room.at != stage::ended) {
      fail_room(found,
                failure{outcome.error().code, "rows to part " + std::to_string(part) + ": " + outcome.error().what},
                out, now);
      return out;
    }
  }
  if (room.writes_left == 0)
    let_go(found, out, now);
  return out;
}

/// Ends this room and no other, once (C29). Tells the front, which tells everybody else; what the tower or a write
/// still uses is kept until they are done.
void encode_machine::fail_room(room_iterator found, const failure& cause, effects& out, time_point now) {
  auto& room = found->second;
  if (room.order.request.value != 0)
    out.push_back(request_failed(cell_, bounds_.front, "encode", room.order.request, cause));
  const bool in_use = room.at == stage::running || room.writes_left > 0;
  if (room.at == stage::ordered)
    return_pixels(room, out, true, now);
  room.at = stage::ended;
  if (!in_use)
    let_go(found, out, now);
}

void encode_machine::let_go(room_iterator found, effects& out, time_point now) {
  auto& room = found->second;
  if (room.rows) {
    if (room.write_failed)
      (void)row_slots_.fail(*room.rows, now);
    else
      (void)row_slots_.release(*room.rows);
  }
  ended_.bury(found->first.value);
  rooms_.erase(found);
  run_waiting(out, now);
}

encode_machine::effects encode_machine::on_cancel(request_id request, time_point now) {
  effects out;
  for (auto each = rooms_.begin(); each != rooms_.end();) {
    const auto current = each++;
    auto& room = current->second;
    if (room.order.request != request || room.at == stage::ended || room.at == stage::parked)
      continue;
    const bool in_use = room.at == stage::running || room.writes_left > 0;
    if (room.at == stage::ordered)
      return_pixels(room, out, !std::all_of(room.pixels.begin(), room.pixels.end(), [](bool here) { return here; }),
                    now);
    room.at = stage::ended;
    if (!in_use)
      let_go(current, out, now);
  }
  return out;
}

encode_machine::effects encode_machine::on_tick(time_point now) {
  effects out;
  pixel_slots_.tick(now);
  row_slots_.tick(now);
  grant_pixels rested{.slots = {}, .born = bounds_.born};
  while (const auto slot = pixel_slots_.acquire())
    rested.slots.push_back(*slot);
  if (!rested.slots.empty())
    out.push_back(send_message{bounds_.front, std::move(rested)});
  for (auto each = rooms_.begin(); each != rooms_.end();) {
    const auto current = each++;
    const auto& room = current->second;
    if (room.at == stage::ended || room.at == stage::writing || now < room.deadline)
      continue;
    fail_room(current,
              failure{fault::timeout, room.at == stage::encoded
                                          ? "a receiver has not granted its rows within timeouts.room_ms"
                                          : "the pixels have not arrived within timeouts.room_ms"},
              out, now);
  }
  run_waiting(out, now);
  return out;
}

} // namespace troupe::protocols
