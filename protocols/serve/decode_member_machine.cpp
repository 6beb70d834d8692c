#include "protocols/serve/decode_machine.hpp"

namespace troupe::protocols {

decode_member_machine::decode_member_machine(const cluster_plan& plan, cell_id cell, rank_id self, options bounds)
    : plan_(plan), cell_(plan.cell(cell)), place_(*cell_.place_of(self)), bounds_(std::move(bounds)) {}

decode_member_machine::effects decode_member_machine::on_reserve_blocks(const reserve_blocks& order, time_point now) {
  const keeps_invariants checked{*this, order.room};
  effects out;
  if (ended_.retired(order.request.value) || rooms_.contains(order.room) || rooms_.size() >= bounds_.rooms_max)
    return out;
  const auto& source = plan_.cell(order.prefill_cell);
  std::vector<rank_id> writers;
  for (const auto place : bounds_.overlap.at(order.prefill_cell))
    writers.push_back(source.ranks[place]);
  lent_.lend(order.request, order.room, writers);
  rooms_.emplace(order.room, room_state{.request = order.request,
                                        .deadline = now + std::chrono::milliseconds{order.deadline_ms},
                                        .missing = {writers.begin(), writers.end()}});
  out.push_back(set_admission{order.room, admission::pending});
  for (const auto writer : writers)
    out.push_back(send_message{writer, grant_blocks{.request = order.request,
                                                    .room = order.room,
                                                    .part = place_,
                                                    .parts = static_cast<std::uint32_t>(cell_.ranks.size()),
                                                    .prompt_tokens = order.prompt_tokens,
                                                    .blocks = order.blocks,
                                                    .lease_generation = order.lease_generation,
                                                    .dtype = bounds_.kv_dtype,
                                                    .born = bounds_.born,
                                                    .valid_ms = order.deadline_ms}});
  return out;
}

decode_member_machine::effects decode_member_machine::on_kv_arrived(room_id id, rank_id from, time_point) {
  const keeps_invariants checked{*this, id};
  effects out;
  const auto found = rooms_.find(id);
  // Otherwise ended, repeated, or others are still to come.
  if (lent_.on_arrived(id, from) && found != rooms_.end() && found->second.missing.erase(from) > 0 &&
      found->second.missing.empty()) {
    out.push_back(set_admission{id, admission::done}); // before the leader hears of it, so that no vote sees it pending
    out.push_back(send_message{cell_.leader(), arrived{found->second.request, id}});
  }
  tell_quiet(out);
  return out;
}

decode_member_machine::effects decode_member_machine::on_returned(rank_id from, const blocks_returned& word) {
  const keeps_invariants checked{*this, word.room};
  effects out;
  lent_.on_returned(word.room, from, word.settled);
  tell_quiet(out);
  return out;
}

void decode_member_machine::on_lost(const lost& news) {
  const keeps_invariants checked{*this};
  lent_.on_lost(news.ranks);
}

decode_member_machine::effects decode_member_machine::on_writers_gone(std::span<const rank_id> ranks,
                                                                      bool bytes_may_arrive) {
  const keeps_invariants checked{*this};
  effects out;
  lent_.on_gone(ranks, bytes_may_arrive);
  tell_quiet(out);
  return out;
}

void decode_member_machine::tell_quiet(effects& out) {
  for (const auto request : lent_.take_quiet())
    out.push_back(send_message{cell_.leader(), blocks_quiet{request}});
}

decode_member_machine::effects decode_member_machine::on_release(request_id request, time_point) {
  const keeps_invariants checked{*this};
  effects out;
  ended_.retire(request.value);
  for (auto each = rooms_.begin(); each != rooms_.end();) {
    const auto current = each++;
    if (current->second.request == request) {
      out.push_back(forget_admission{current->first});
      rooms_.erase(current);
    }
  }
  for (const auto& [room, writer] : lent_.end(request))
    out.push_back(send_message{writer, revoke_blocks{request, room}});
  tell_quiet(out);
  return out;
}

decode_member_machine::effects decode_member_machine::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  lent_.on_tick(now);
  tell_quiet(out);
  for (auto& [id, room] : rooms_)
    if (!room.missing.empty() && now >= room.deadline && room.deadline != time_point::max()) {
      room.deadline = time_point::max(); // said once
      out.push_back(set_admission{id, admission::failed});
    }
  return out;
}

void decode_member_machine::check_invariants() const {
  TROUPE_ASSERT("K9", rooms_.size() <= bounds_.rooms_max);
  for (const auto& [id, room] : rooms_)
    TROUPE_ASSERT("K2", lent_.knows(id));
}

} // namespace troupe::protocols
