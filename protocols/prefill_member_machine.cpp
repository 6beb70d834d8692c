#include <algorithm>

#include "protocols/prefill_machine.hpp"

namespace troupe::protocols {

prefill_member_machine::prefill_member_machine(const cluster_plan& plan, cell_id cell, rank_id self, options bounds)
    : plan_(plan), cell_(plan.cell(cell)), self_(self), place_(*cell_.place_of(self)), bounds_(std::move(bounds)) {}

prefill_member_machine::effects prefill_member_machine::on_reserve_rows(const reserve_rows& order, time_point now) {
  effects out;
  if (ended_.buried(order.request.value) || rows_.size() >= bounds_.rooms_max)
    return out;
  auto& room = rows_[order.room];
  if (room.granted)
    return out; // asked twice: one grant is enough (D10)
  room = {.request = order.request, .deadline = now + bounds_.room_deadline, .granted = true, .landed = false};
  out.push_back(set_admission{order.room, admission::pending});
  out.push_back(send_message{plan_.cell(order.encode_cell).leader(),
                             grant_rows{.request = order.request,
                                        .room = order.room,
                                        .part = place_,
                                        .parts = static_cast<std::uint32_t>(cell_.ranks.size()),
                                        .slot = order.slot,
                                        .first_row = 0,
                                        .rows = order.tokens,
                                        .row_elements = bounds_.row_elements,
                                        .dtype = element_type::f32,
                                        .born = bounds_.born,
                                        .valid_ms = order.deadline_ms}});
  return out;
}

prefill_member_machine::effects prefill_member_machine::on_rows_landed(room_id id, time_point) {
  effects out;
  const auto found = rows_.find(id);
  if (found == rows_.end() || found->second.landed)
    return out; // late or repeated: the room has ended (D11)
  found->second.landed = true;
  out.push_back(set_admission{id, admission::done}); // before the leader hears of it, so that no vote sees it pending
  out.push_back(send_message{cell_.leader(), landed{found->second.request, id}});
  return out;
}

prefill_member_machine::effects prefill_member_machine::on_prefilled(request_id request, room_id id,
                                                                     cell_id decode_cell,
                                                                     std::vector<block_index> blocks, time_point now) {
  effects out;
  auto& room = kv_[id];
  room.request = request;
  room.decode_cell = decode_cell;
  room.prefilled = true;
  room.blocks = std::move(blocks);
  room.deadline = now + bounds_.room_deadline;
  if (ended_.buried(request.value)) {
    report(id, room, failure{fault::cancelled, {}}, out);
    return out;
  }
  if (bounds_.overlap.at(decode_cell).empty()) { // no decode rank holds what this rank computed
    report(id, room, std::nullopt, out);
    return out;
  }
  write_granted(id, room, out);
  return out;
}

prefill_member_machine::effects prefill_member_machine::on_grant(rank_id from, const grant_blocks& grant,
                                                                 time_point now) {
  effects out;
  if (ended_.buried(grant.request.value))
    return out;
  if (!kv_.contains(grant.room)) {
    if (kv_.size() >= bounds_.rooms_max)
      return out;
    kv_[grant.room].deadline = now + bounds_.room_deadline;
  }
  auto& room = kv_[grant.room];
  if (room.grants.contains(grant.part))
    return out;
  room.request = grant.request;
  // The grant is believed only from the rank that it names.
  const auto cells = plan_.cells_on(from);
  const bool known = std::any_of(cells.begin(), cells.end(), [&](cell_id cell) {
    const auto& one = plan_.cell(cell);
    return one.role == role_kind::decode && one.place_of(from) == grant.part && one.ranks.size() == grant.parts;
  });
  if (!known)
    return out;
  room.grants.emplace(grant.part, grant);
  room.leases.emplace(grant.part, lease{grant.born, now + std::chrono::milliseconds{grant.valid_ms}});
  write_granted(grant.room, room, out);
  return out;
}

/// Contract: I13.
result<void> prefill_member_machine::judge_grant(const grant_blocks& grant, std::size_t blocks) const {
  const auto part = "decode part " + std::to_string(grant.part);
  if (grant.dtype != bounds_.kv_dtype)
    return fail(fault::span_mismatch, part + " keeps keys and values as " + std::string{name(grant.dtype)} +
                                          ", this rank as " + std::string{name(bounds_.kv_dtype)});
  if (grant.blocks.size() < blocks)
    return fail(fault::span_mismatch, part + " grants " + std::to_string(grant.blocks.size()) +
                                          " blocks, the prompt has " + std::to_string(blocks));
  return {};
}

/// Writes to each decode rank as soon as both sides are ready; the others may follow later.
void prefill_member_machine::write_granted(room_id id, kv_room& room, effects& out) {
  if (!room.prefilled || room.reported)
    return;
  for (const auto part : bounds_.overlap.at(room.decode_cell)) {
    const auto grant = room.grants.find(part);
    if (grant == room.grants.end() || room.started.contains(part))
      continue;
    if (auto fits = judge_grant(grant->second, room.blocks.size()); !fits) {
      report(id, room, std::move(fits.error()), out);
      return;
    }
    room.started.emplace(part, true);
    out.push_back(
        write_blocks{.room = id,
                     .part = part,
                     .decode_cell = room.decode_cell,
                     .blocks = room.blocks,
                     .target = {grant->second.blocks.begin(),
                                grant->second.blocks.begin() + static_cast<std::ptrdiff_t>(room.blocks.size())},
                     .under = room.leases.at(part)});
  }
}

prefill_member_machine::effects prefill_member_machine::on_written(room_id id, std::uint32_t part,
                                                                   const result<void>& outcome, time_point) {
  effects out;
  const auto found = kv_.find(id);
  if (found == kv_.end() || !found->second.started.contains(part))
    return out;
  auto& room = found->second;
  ++room.delivered;
  const bool quiet = room.delivered == room.started.size();
  if (!outcome) {
    ended_.bury(room.request.value);
    if (quiet)
      report(id, room,
             failure{outcome.error().code,
                     "keys and values to decode part " + std::to_string(part) + ": " + outcome.error().what},
             out);
    return out;
  }
  if (room.delivered == bounds_.overlap.at(room.decode_cell).size())
    report(id, room, std::nullopt, out);
  else if (quiet && ended_.buried(room.request.value))
    report(id, room, failure{fault::cancelled, {}}, out);
  return out;
}

/// Once for each room: after it nothing of this rank reads the blocks any more.
void prefill_member_machine::report(room_id id, kv_room& room, std::optional<failure> problem, effects& out) {
  if (room.reported)
    return;
  room.reported = true;
  out.push_back(send_message{cell_.leader(),
                             shipped{.request = room.request,
                                     .room = id,
                                     .code = problem ? static_cast<std::uint16_t>(problem->code) : std::uint16_t{0},
                                     .message = problem ? problem->what : std::string{}}});
}

prefill_member_machine::effects prefill_member_machine::on_release(request_id request, time_point) {
  effects out;
  ended_.bury(request.value);
  for (auto each = rows_.begin(); each != rows_.end();) {
    const auto current = each++;
    if (current->second.request == request) {
      out.push_back(forget_admission{current->first});
      rows_.erase(current);
    }
  }
  for (auto each = kv_.begin(); each != kv_.end();) {
    const auto current = each++;
    auto& room = current->second;
    if (room.request != request)
      continue;
    const bool quiet = room.delivered == room.started.size();
    if (room.prefilled && quiet)
      report(current->first, room, failure{fault::cancelled, {}}, out);
    if (quiet)
      kv_.erase(current);
  }
  return out;
}

prefill_member_machine::effects prefill_member_machine::on_tick(time_point now) {
  effects out;
  for (auto& [id, room] : rows_)
    if (!room.landed && now >= room.deadline && room.deadline != time_point::max()) {
      room.deadline = time_point::max(); // said once
      out.push_back(set_admission{id, admission::failed});
    }
  for (auto each = kv_.begin(); each != kv_.end();) {
    const auto current = each++;
    auto& room = current->second;
    if (now < room.deadline)
      continue;
    const bool quiet = room.delivered == room.started.size();
    if (room.prefilled && quiet && !room.reported)
      report(current->first, room,
             failure{fault::timeout, "a decode rank has not granted its blocks within timeouts.room_ms"}, out);
    if (quiet && (room.reported || !room.prefilled))
      kv_.erase(current);
  }
  return out;
}

} // namespace troupe::protocols
