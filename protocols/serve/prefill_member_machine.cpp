#include <algorithm>

#include "protocols/serve/prefill_machine.hpp"
#include "protocols/serve/roles.hpp"

namespace troupe::protocols {

prefill_member_machine::prefill_member_machine(const cluster_plan& plan, cell_id cell, rank_id self, options bounds)
    : plan_(plan), cell_(plan.cell(cell)), place_(*cell_.place_of(self)), bounds_(std::move(bounds)) {}

// ---- rows: this rank lends ----------------------------------------------------------------------------------------

prefill_member_machine::effects prefill_member_machine::on_reserve_rows(const reserve_rows& order, time_point now) {
  const keeps_invariants checked{*this, order.room};
  effects out;
  if (ended_.retired(order.request.value) || rows_.size() >= bounds_.rooms_max)
    return out;
  const auto [which, fresh] = rows_.try_emplace(order.room);
  if (!fresh)
    return out; // asked twice: one grant is enough (D10)
  const auto writer = plan_.cell(order.encode_cell).leader();
  which->second = {.request = order.request, .deadline = now + std::chrono::milliseconds{order.deadline_ms}};
  lent_.lend(order.request, order.room, {writer});
  out.push_back(set_admission{order.room, admission::pending});
  out.push_back(send_message{writer, grant_rows{.request = order.request,
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

prefill_member_machine::effects prefill_member_machine::on_rows_arrived(room_id id, rank_id from, time_point) {
  const keeps_invariants checked{*this, id};
  effects out;
  const auto found = rows_.find(id);
  if (lent_.on_arrived(id, from) && found != rows_.end()) {
    out.push_back(set_admission{id, admission::done}); // before the leader hears of it, so that no vote sees it pending
    out.push_back(send_message{cell_.leader(), arrived{found->second.request, id}});
  }
  tell_quiet(out);
  return out; // late or repeated: the room has ended (D11)
}

prefill_member_machine::effects prefill_member_machine::on_rows_returned(rank_id from, const rows_returned& word) {
  const keeps_invariants checked{*this, word.room};
  effects out;
  lent_.on_returned(word.room, from, word.settled);
  tell_quiet(out);
  return out;
}

prefill_member_machine::effects prefill_member_machine::on_writers_gone(std::span<const rank_id> ranks,
                                                                        bool bytes_may_arrive) {
  const keeps_invariants checked{*this};
  effects out;
  lent_.on_gone(ranks, bytes_may_arrive);
  tell_quiet(out);
  return out;
}

void prefill_member_machine::tell_quiet(effects& out) {
  for (const auto request : lent_.take_quiet())
    out.push_back(send_message{cell_.leader(), rows_quiet{request}});
}

// ---- keys and values: this rank writes ----------------------------------------------------------------------------

prefill_member_machine::effects prefill_member_machine::on_prefilled(request_id request, room_id id,
                                                                     cell_id decode_cell,
                                                                     std::vector<block_index> blocks, time_point now) {
  const keeps_invariants checked{*this, id};
  effects out;
  auto& room = kv_[id];
  room.request = request;
  room.decode_cell = decode_cell;
  room.prefilled = true;
  room.blocks = std::move(blocks);
  room.deadline = now + bounds_.room_deadline;
  if (ended_.retired(request.value))
    fail_room(id, room, {fault::cancelled, {}}, out);
  write_granted(id, room, now, out);
  report_if_quiet(id, room, out);
  return out;
}

prefill_member_machine::effects prefill_member_machine::on_grant(rank_id from, const grant_blocks& grant,
                                                                 time_point now) {
  const keeps_invariants checked{*this, grant.room};
  effects out;
  // The grant is believed only from the rank that it names.
  const auto cells = plan_.cells_on(from);
  const bool known = std::any_of(cells.begin(), cells.end(), [&](cell_id cell) {
    const auto& one = plan_.cell(cell);
    return one.role == serve_role::decode && one.place_of(from) == grant.part && one.ranks.size() == grant.parts;
  });
  if (!known || lost_.is_of_the_past(from, grant.born))
    return out;
  const bool full = !kv_.contains(grant.room) && kv_.size() >= bounds_.rooms_max;
  if (full || ended_.retired(grant.request.value)) {
    give_back(from, grant.request, grant.room, out);
    return out;
  }
  const auto [which, fresh] = kv_.try_emplace(grant.room);
  auto& room = which->second;
  if (fresh)
    room.deadline = now + std::chrono::milliseconds{grant.valid_ms};
  room.request = grant.request;
  if (!room.grants.take(from, grant, now))
    return out;
  write_granted(grant.room, room, now, out);
  if (room.failed)
    fail_room(grant.room, room, *room.failed, out);
  report_if_quiet(grant.room, room, out);
  return out;
}

void prefill_member_machine::give_back(rank_id to, request_id request, room_id room, effects& out, bool settled) {
  out.push_back(send_message{to, blocks_returned{request, room, settled}});
}

/// Contract: I13, K1.
result<void> prefill_member_machine::validate_grant(const kv_grants::held& held, std::size_t blocks,
                                                    time_point now) const {
  const auto& grant = held.what;
  const auto part = "decode part " + std::to_string(grant.part);
  if (grant.dtype != bounds_.kv_dtype)
    return fail(fault::span_mismatch, part + " keeps keys and values as " + std::string{name(grant.dtype)} +
                                          ", this rank as " + std::string{name(bounds_.kv_dtype)});
  if (grant.blocks.size() < blocks)
    return fail(fault::span_mismatch, part + " grants " + std::to_string(grant.blocks.size()) +
                                          " blocks, the prompt has " + std::to_string(blocks));
  if (auto holds = check_lease(held.under, grant.born, now); !holds)
    return fail(holds.error().code, part + ": " + holds.error().what);
  return {};
}

/// Writes to each decode rank as soon as both sides are ready; the others may follow later.
void prefill_member_machine::write_granted(room_id id, kv_room& room, time_point now, effects& out) {
  if (!room.prefilled || room.failed || room.reported)
    return;
  for (const auto part : bounds_.overlap.at(room.decode_cell)) {
    auto* const grant = room.grants.find_unused(part);
    if (grant == nullptr)
      continue;
    if (auto fits = validate_grant(*grant, room.blocks.size(), now); !fits) {
      fail_room(id, room, std::move(fits.error()), out);
      return;
    }
    grant->at = kv_grants::writing::on_its_way;
    const auto& target = grant->what.blocks;
    out.push_back(
        write_blocks{.room = id,
                     .part = part,
                     .decode_cell = room.decode_cell,
                     .blocks = room.blocks,
                     .target = {target.begin(), target.begin() + static_cast<std::ptrdiff_t>(room.blocks.size())},
                     .under = grant->under});
  }
}

/// The first failure of a part is the room's; nothing more is begun (K15).
void prefill_member_machine::fail_room(room_id id, kv_room& room, failure cause, effects& out) {
  if (!room.failed)
    room.failed = std::move(cause);
  room.grants.end_unused([&](const auto& grant) { give_back(grant.from, room.request, id, out); });
}

prefill_member_machine::effects prefill_member_machine::on_written(room_id id, std::uint32_t part,
                                                                   const result<void>& outcome, time_point) {
  const keeps_invariants checked{*this, id};
  effects out;
  const auto found = kv_.find(id);
  if (found == kv_.end())
    return out;
  auto& room = found->second;
  const auto* const held = room.grants.on_written(part, outcome.has_value());
  if (held == nullptr)
    return out;
  if (!outcome) {
    give_back(held->from, room.request, id, out, !may_still_arrive(outcome.error().code));
    fail_room(
        id, room,
        {outcome.error().code, "keys and values to decode part " + std::to_string(part) + ": " + outcome.error().what},
        out);
  } else if (held->revoked) {
    give_back(held->from, room.request, id, out);
  }
  report_if_quiet(id, room, out);
  return out;
}

prefill_member_machine::effects prefill_member_machine::on_revoke(rank_id from, const revoke_blocks& word) {
  const keeps_invariants checked{*this, word.room};
  effects out;
  ended_.retire(word.request.value);
  using enum kv_grants::revocation;
  const auto found = kv_.find(word.room);
  const auto how = found == kv_.end() ? was_over : found->second.grants.on_revoke(from);
  if (how == waits)
    return out;
  give_back(from, word.request, word.room, out);
  if (how == was_over)
    return out;
  fail_room(word.room, found->second, {fault::cancelled, "a decode rank has taken its blocks back"}, out);
  report_if_quiet(word.room, found->second, out);
  // The leader may have ended the request before this rank heard of it, and then nobody releases it here.
  if (!found->second.prefilled && !found->second.grants.any_on_its_way())
    kv_.erase(found);
  return out;
}

/// What they lent is no more; a write that is on its way there ends by itself.
prefill_member_machine::effects prefill_member_machine::on_lost(const lost& news) {
  const keeps_invariants checked{*this};
  effects out;
  lent_.on_lost(news.ranks);
  lost_.on_lost(news);
  const auto is_lost = [&](rank_id rank) {
    return std::find(news.ranks.begin(), news.ranks.end(), rank) != news.ranks.end();
  };
  for (auto& [id, room] : kv_) {
    const auto& receivers = plan_.cell(room.decode_cell).ranks;
    const bool hit = (room.prefilled && std::any_of(receivers.begin(), receivers.end(), is_lost)) ||
                     room.grants.any_from(news.ranks);
    if (!hit)
      continue;
    room.grants.on_lost(news.ranks);
    fail_room(id, room, {fault::cell_gone, news.cause}, out);
    report_if_quiet(id, room, out);
  }
  return out;
}

/// Once for each room: after it nothing of this rank reads the blocks any more.
void prefill_member_machine::report_if_quiet(room_id id, kv_room& room, effects& out) {
  if (!room.prefilled || room.reported || room.grants.any_on_its_way())
    return;
  const auto& parts = bounds_.overlap.at(room.decode_cell); // none: no decode rank holds what this rank computed
  const bool whole =
      std::all_of(parts.begin(), parts.end(), [&](std::uint32_t part) { return room.grants.is_delivered(part); });
  if (!whole && !room.failed)
    return;
  room.reported = true;
  out.push_back(send_message{
      cell_.leader(), kv_sent{.request = room.request,
                              .room = id,
                              .code = room.failed ? static_cast<std::uint16_t>(room.failed->code) : std::uint16_t{0},
                              .message = room.failed ? room.failed->what : std::string{}}});
}

// ---- both ---------------------------------------------------------------------------------------------------------

prefill_member_machine::effects prefill_member_machine::on_release(request_id request, time_point) {
  const keeps_invariants checked{*this};
  effects out;
  ended_.retire(request.value);
  for (auto each = rows_.begin(); each != rows_.end();) {
    const auto current = each++;
    if (current->second.request == request) {
      out.push_back(forget_admission{current->first});
      rows_.erase(current);
    }
  }
  for (const auto& [room, writer] : lent_.end(request))
    out.push_back(send_message{writer, revoke_rows{request, room}});
  tell_quiet(out);
  for (auto each = kv_.begin(); each != kv_.end();) {
    const auto current = each++;
    auto& room = current->second;
    if (room.request != request)
      continue;
    fail_room(current->first, room, {fault::cancelled, {}}, out);
    report_if_quiet(current->first, room, out);
    if (!room.grants.any_on_its_way())
      kv_.erase(current);
  }
  return out;
}

prefill_member_machine::effects prefill_member_machine::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  lent_.on_tick(now);
  tell_quiet(out);
  for (auto& [id, room] : rows_)
    if (lent_.may_be_written(id) && now >= room.deadline && room.deadline != time_point::max()) {
      room.deadline = time_point::max(); // said once
      out.push_back(set_admission{id, admission::failed});
    }
  for (auto each = kv_.begin(); each != kv_.end();) {
    const auto current = each++;
    auto& room = current->second;
    if (now < room.deadline)
      continue;
    fail_room(current->first, room,
              {fault::timeout, "a decode rank has not granted its blocks within timeouts.room_ms"}, out);
    report_if_quiet(current->first, room, out);
    if (!room.grants.any_on_its_way())
      kv_.erase(current);
  }
  return out;
}

// ---- invariants ---------------------------------------------------------------------------------------------------

void prefill_member_machine::check_invariants() const {
  TROUPE_ASSERT("K9", rows_.size() <= bounds_.rooms_max);
  for (const auto& [id, room] : rows_)
    TROUPE_ASSERT("K2", lent_.knows(id));
  for (const auto& [id, room] : kv_) {
    TROUPE_ASSERT("K15", !room.reported || (room.prefilled && !room.grants.any_on_its_way()));
    TROUPE_ASSERT("K15", room.prefilled || !room.grants.any_on_its_way());
    if (room.failed)
      for (const auto& [part, held] : room.grants.by_part())
        TROUPE_ASSERT("K2", held.at != kv_grants::writing::not_yet);
  }
}

} // namespace troupe::protocols
