#include <algorithm>

#include "protocols/mesh/places.hpp"
#include "protocols/serve/decode_machine.hpp"

namespace troupe::protocols {

namespace {

/// What prefill has computed must be what the front asked for, before anything of it is emitted (F6).
std::optional<failure> judge_handover(const reserve_kv& order, const handover& news) {
  if (news.length != order.prompt_tokens)
    return failure{fault::prompt_mismatch, std::to_string(news.length) + " prompt tokens were handed over, " +
                                               std::to_string(order.prompt_tokens) + " were asked for"};
  if (order.prompt_digest != 0 && news.digest != order.prompt_digest)
    return failure{fault::prompt_mismatch, "digest " + std::to_string(news.digest) + " was handed over, " +
                                               std::to_string(order.prompt_digest) + " was asked for"};
  return std::nullopt;
}

/// Prompt and answer.
cell_needs needs_of(const reserve_kv& order) {
  return {.kv_tokens = std::uint64_t{order.prompt_tokens} + order.max_tokens, .row_slots = 0};
}

} // namespace

decode_leader_machine::decode_leader_machine(const cluster_plan& plan, cell_id cell, options bounds)
    : cell_(plan.cell(cell)), bounds_(bounds), ledger_(cell_, {.front = bounds.front,
                                                               .role = "decode",
                                                               .kv_blocks = bounds.kv_blocks,
                                                               .row_slots = 0,
                                                               .requests_max = bounds.requests_max,
                                                               .lends = lent_memory::kv_blocks,
                                                               .needs = needs_of}) {}

decode_leader_machine::effects decode_leader_machine::on_reserve(const reserve_kv& order, time_point now) {
  const keeps_invariants checked{*this, order.request};
  effects out;
  ledger_.take(order, now, out);
  admit(out, now);
  return out;
}

void decode_leader_machine::admit(effects& out, time_point now) {
  for (auto which = ledger_.start_next(); which != ledger_.none(); which = ledger_.start_next()) {
    auto& [request, one] = *which;
    one.arrived.assign(cell_.ranks.size(), false);
    reservations_ = reservations_.next();
    for (const auto member : cell_.ranks)
      out.push_back(send_message{member, reserve_blocks{.request = request,
                                                        .room = one.order.room,
                                                        .prompt_tokens = one.order.prompt_tokens,
                                                        .blocks = one.blocks,
                                                        .lease_generation = reservations_,
                                                        .prefill_cell = one.order.prefill_cell,
                                                        .deadline_ms = ms_left(one.deadline, now)}});
    if (const auto early = early_.extract(request); !early.empty())
      take_handover(which, early.mapped().news, out, now);
  }
}

decode_leader_machine::effects decode_leader_machine::on_handover(const handover& news, time_point now) {
  const keeps_invariants checked{*this, news.request};
  effects out;
  if (ledger_.has_ended(news.request))
    return out;
  const auto which = ledger_.find(news.request);
  if (which == ledger_.none()) {
    if (early_.size() < bounds_.requests_max)
      early_.emplace(news.request, early_handover{news, now + bounds_.room_deadline});
    return out;
  }
  if (!which->second.first) // once is enough (D10)
    take_handover(which, news, out, now);
  return out;
}

void decode_leader_machine::take_handover(iterator which, const handover& news, effects& out, time_point now) {
  if (auto problem = judge_handover(which->second.order, news)) {
    ledger_.fail(which, *std::move(problem), out);
    end(which, out, now);
    return;
  }
  which->second.first = news; // stored before anything flips (F14)
  // Until now others were served first, which is the request's own time; from now on bytes are on their way.
  which->second.deadline = std::min(which->second.deadline, now + bounds_.room_deadline);
  vote_if_whole(which, out);
}

decode_leader_machine::effects decode_leader_machine::on_arrived(const arrived& news, std::uint32_t place, time_point) {
  const keeps_invariants checked{*this, news.request};
  effects out;
  const auto which = ledger_.find(news.request);
  if (which == ledger_.none() || place >= which->second.arrived.size())
    return out;
  which->second.arrived[place] = true;
  vote_if_whole(which, out);
  return out;
}

void decode_leader_machine::vote_if_whole(iterator which, effects& out) {
  auto& one = which->second;
  const bool whole = one.first && all(one.arrived);
  if (one.at != stage::receiving || !whole)
    return;
  one.at = stage::voting;
  out.push_back(vote{.request = which->first, .rooms = {one.order.room}});
}

decode_leader_machine::effects decode_leader_machine::on_vote(request_id request, const std::vector<admission>& minimum,
                                                              time_point now) {
  const keeps_invariants checked{*this, request};
  effects out;
  const auto which = ledger_.find(request, stage::voting);
  if (which == ledger_.none())
    return out;
  switch (ledger_.on_vote(which, minimum, "keys and values of the prompt are not whole on every rank", out)) {
  case ledger::vote_result::ended:
    admit(out, now);
    break;
  case ledger::vote_result::pending:
    which->second.at = stage::receiving;
    break;
  case ledger::vote_result::whole:
    join(which, out);
    break;
  }
  return out;
}

void decode_leader_machine::join(iterator which, effects& out) {
  auto& one = which->second;
  one.at = stage::joined;
  out.push_back(join_batch{.sequence = {.request = which->first,
                                        .context = one.first->length,
                                        .position_delta = one.first->position_delta,
                                        .blocks = one.blocks,
                                        .sampling = one.order.sampling},
                           .first_token = one.first->first_token,
                           .max_tokens = one.order.max_tokens,
                           .end_tokens = one.order.end_tokens,
                           .first_logprobs = one.first->logprobs});
}

decode_leader_machine::effects decode_leader_machine::on_left(request_id request, time_point now) {
  const keeps_invariants checked{*this, request};
  effects out;
  if (const auto which = ledger_.find(request, stage::joined); which != ledger_.none())
    end(which, out, now);
  return out;
}

decode_leader_machine::effects decode_leader_machine::on_given_up(request_id request, const failure& cause) {
  const keeps_invariants checked{*this, request};
  effects out;
  if (const auto which = ledger_.find(request, stage::joined); which != ledger_.none())
    ledger_.fail(which, cause, out);
  return out;
}

decode_leader_machine::effects decode_leader_machine::on_cancel(request_id request, time_point now) {
  const keeps_invariants checked{*this, request};
  effects out;
  early_.erase(request);
  const auto which = ledger_.on_cancel(request);
  if (which == ledger_.none()) {
    admit(out, now);
    return out;
  }
  switch (which->second.at) {
  case stage::receiving:
    end(which, out, now); // prefill ranks may be writing: the blocks rest first (K2)
    break;
  case stage::voting:
    which->second.ending = failure{fault::cancelled, {}};
    break;
  case stage::joined:
    out.push_back(leave_batch{request});
    break;
  }
  return out;
}

void decode_leader_machine::end(iterator which, effects& out, time_point now) {
  ledger_.end(which, out);
  admit(out, now);
}

decode_leader_machine::effects decode_leader_machine::on_quiet(const blocks_quiet& word, std::uint32_t place,
                                                               time_point now) {
  const keeps_invariants checked{*this, word.request};
  effects out;
  if (ledger_.on_quiet(word.request, place))
    admit(out, now);
  return out;
}

decode_leader_machine::effects decode_leader_machine::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  const auto what_is_late = [](const ledger::entry& one) {
    const auto missing = std::count(one.arrived.begin(), one.arrived.end(), false);
    return one.first
               ? "keys and values had not arrived on " + std::to_string(missing) + " ranks within timeouts.room_ms"
               : std::string{"no first token within the request's time"};
  };
  ledger_.end_late(stage::receiving, now, what_is_late, out);
  std::erase_if(early_, [&](const auto& each) { return now >= each.second.until && !ledger_.waits(each.first); });
  admit(out, now);
  return out;
}

// ---- invariants ---------------------------------------------------------------------------------------------------

/// What is counted, the ledger asserts.
void decode_leader_machine::check_invariants() const {
  TROUPE_ASSERT("K9", early_.size() <= bounds_.requests_max);
  for (const auto& [request, one] : ledger_.started()) {
    TROUPE_ASSERT("B15", one.arrived.size() == cell_.ranks.size());
    TROUPE_ASSERT("F14", one.at == stage::receiving || (one.first && all(one.arrived)));
    TROUPE_ASSERT("F14", !early_.contains(request));
  }
}

} // namespace troupe::protocols
