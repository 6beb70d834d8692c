#include <algorithm>

#include "protocols/mesh/places.hpp"
#include "protocols/serve/prefill_machine.hpp"

namespace troupe::protocols {

namespace {

cell_needs needs_of(const submit& work) {
  return {.kv_tokens = work.prompt.size(), .row_slots = work.pictures.size()};
}

} // namespace

prefill_leader_machine::prefill_leader_machine(const cluster_plan& plan, cell_id cell, options bounds)
    : plan_(plan), cell_(plan.cell(cell)), ledger_(cell_, {.front = bounds.front,
                                                           .role = "prefill",
                                                           .kv_blocks = bounds.kv_blocks,
                                                           .row_slots = bounds.row_slots,
                                                           .requests_max = bounds.requests_max,
                                                           .lends = lent_memory::row_slots,
                                                           .needs = needs_of}) {}

prefill_leader_machine::effects prefill_leader_machine::on_submit(const submit& work, time_point now) {
  const keeps_invariants checked{*this, work.request};
  effects out;
  ledger_.take(work, now, out);
  admit(out, now);
  return out;
}

void prefill_leader_machine::admit(effects& out, time_point now) {
  for (auto which = ledger_.start_next(); which != ledger_.none(); which = ledger_.start_next()) {
    auto& [request, one] = *which;
    one.kv_sent.assign(cell_.ranks.size(), false);
    for (std::size_t i = 0; i < one.order.pictures.size(); ++i) {
      const auto& picture = one.order.pictures[i];
      one.arrived.emplace(picture.room, std::vector<bool>(cell_.ranks.size(), false));
      for (const auto member : cell_.ranks)
        out.push_back(send_message{member, reserve_rows{.request = request,
                                                        .room = picture.room,
                                                        .slot = one.rows[i],
                                                        .tokens = picture.tokens,
                                                        .encode_cell = picture.encode_cell,
                                                        .deadline_ms = ms_left(one.deadline, now)}});
    }
    vote_if_whole(which, out);
  }
}

/// A request without pictures has nothing to wait for (I29).
void prefill_leader_machine::vote_if_whole(iterator which, effects& out) {
  auto& one = which->second;
  if (one.at != stage::gathering)
    return;
  if (one.order.pictures.empty())
    return run(which, out);
  vote question{.request = which->first, .rooms = {}};
  for (const auto& [room, places] : one.arrived) {
    if (!all(places))
      return;
    question.rooms.push_back(room);
  }
  one.at = stage::voting;
  out.push_back(std::move(question));
}

prefill_leader_machine::effects prefill_leader_machine::on_arrived(const arrived& news, std::uint32_t place,
                                                                   time_point) {
  const keeps_invariants checked{*this, news.request};
  effects out;
  const auto which = ledger_.find(news.request);
  if (which == ledger_.none())
    return out;
  const auto room = which->second.arrived.find(news.room);
  if (room == which->second.arrived.end() || place >= room->second.size())
    return out;
  room->second[place] = true; // again: nothing new, and the others are still awaited (D19)
  vote_if_whole(which, out);
  return out;
}

prefill_leader_machine::effects prefill_leader_machine::on_vote(request_id request,
                                                                const std::vector<admission>& minimum, time_point now) {
  const keeps_invariants checked{*this, request};
  effects out;
  const auto which = ledger_.find(request, stage::voting);
  if (which == ledger_.none())
    return out;
  switch (ledger_.on_vote(which, minimum, "a rank of the mesh cannot get the picture's rows", out)) {
  case ledger::vote_result::ended:
    admit(out, now);
    break;
  case ledger::vote_result::pending:
    which->second.at = stage::gathering; // until the next news or the deadline
    break;
  case ledger::vote_result::whole:
    run(which, out);
    break;
  }
  return out;
}

void prefill_leader_machine::run(iterator which, effects& out) {
  auto& one = which->second;
  one.at = stage::running;
  run_prefill order{.work = one.order, .blocks = one.blocks, .rows = {}};
  for (const auto& slot : one.rows)
    order.rows.push_back(slot.slot);
  out.push_back(std::move(order));
}

prefill_leader_machine::effects prefill_leader_machine::on_prefilled(request_id request, token_id first_token,
                                                                     std::int32_t position_delta, std::uint64_t digest,
                                                                     time_point now,
                                                                     std::vector<token_logprob> logprobs) {
  const keeps_invariants checked{*this, request};
  effects out;
  const auto which = ledger_.find(request, stage::running);
  if (which == ledger_.none())
    return out;
  auto& one = which->second;
  if (!one.ending)
    out.push_back(send_message{plan_.cell(one.order.decode_cell).leader(),
                               handover{.request = request,
                                        .room = one.order.kv_room,
                                        .first_token = first_token,
                                        .position_delta = position_delta,
                                        .length = static_cast<std::uint32_t>(one.order.prompt.size()),
                                        .digest = digest,
                                        .logprobs = std::move(logprobs)}});
  await_kv_sent(which, out, now);
  return out;
}

void prefill_leader_machine::await_kv_sent(iterator which, effects& out, time_point now) {
  auto& one = which->second;
  one.at = stage::sending;
  if (all(one.kv_sent)) // every rank of the mesh was quicker than the news of the first token
    end(which, out, now);
  else if (one.ending)
    ledger_.release_members(which->first, out);
}

prefill_leader_machine::effects prefill_leader_machine::on_given_up(request_id request, const failure& cause,
                                                                    bool ran_whole, time_point now) {
  const keeps_invariants checked{*this, request};
  effects out;
  const auto which = ledger_.find(request, stage::running);
  if (which == ledger_.none())
    return out;
  ledger_.fail(which, cause, out);
  if (ran_whole)
    await_kv_sent(which, out, now);
  else
    end(which, out, now);
  return out;
}

/// What the decode ranks are still being sent is kept until every rank of the mesh has shipped (C23).
prefill_leader_machine::effects prefill_leader_machine::on_kv_sent(const kv_sent& news, std::uint32_t place,
                                                                   time_point now) {
  const keeps_invariants checked{*this, news.request};
  effects out;
  const auto which = ledger_.find(news.request);
  if (which == ledger_.none() || place >= which->second.kv_sent.size() || which->second.kv_sent[place])
    return out;
  auto& one = which->second;
  one.kv_sent[place] = true;
  if (news.code != 0)
    ledger_.fail(which, {fault_from(news.code).value_or(fault::transfer_failed), news.message}, out);
  if (one.at == stage::sending && all(one.kv_sent))
    end(which, out, now);
  return out;
}

prefill_leader_machine::effects prefill_leader_machine::on_cancel(request_id request, time_point now) {
  const keeps_invariants checked{*this, request};
  effects out;
  const auto which = ledger_.on_cancel(request);
  if (which == ledger_.none()) {
    admit(out, now);
    return out;
  }
  auto& one = which->second;
  if (!one.ending)
    one.ending = failure{fault::cancelled, {}};
  switch (one.at) {
  case stage::gathering:
    end(which, out, now);
    break;
  case stage::voting:
    break; // the mesh is in step with it: it ends when that step has ended
  case stage::running:
    out.push_back(stop_prefill{request});  // and with it the prompt, or else its last piece
    ledger_.release_members(request, out); // nothing of it is written meanwhile
    break;
  case stage::sending:
    ledger_.release_members(request, out);
    break;
  }
  return out;
}

void prefill_leader_machine::end(iterator which, effects& out, time_point now) {
  ledger_.end(which, out);
  admit(out, now);
}

prefill_leader_machine::effects prefill_leader_machine::on_quiet(const rows_quiet& word, std::uint32_t place,
                                                                 time_point now) {
  const keeps_invariants checked{*this, word.request};
  effects out;
  if (ledger_.on_quiet(word.request, place))
    admit(out, now);
  return out;
}

prefill_leader_machine::effects prefill_leader_machine::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  const auto what_is_late = [&](const ledger::entry& one) {
    std::size_t missing = 0;
    for (const auto& [room, places] : one.arrived)
      missing += static_cast<std::size_t>(std::count(places.begin(), places.end(), false));
    return std::to_string(missing) + " of " + std::to_string(one.arrived.size() * cell_.ranks.size()) +
           " row transfers had not arrived within the request's time";
  };
  ledger_.end_late(stage::gathering, now, what_is_late, out);
  admit(out, now);
  return out;
}

// ---- invariants ---------------------------------------------------------------------------------------------------

/// What is counted, the ledger asserts.
void prefill_leader_machine::check_invariants() const {
  for (const auto& [request, one] : ledger_.started()) {
    TROUPE_ASSERT("C23", one.kv_sent.size() == cell_.ranks.size());
    TROUPE_ASSERT("B15", one.arrived.size() <= one.order.pictures.size());
    const bool waits = one.at == stage::gathering || one.at == stage::voting;
    TROUPE_ASSERT("C15", one.at != stage::sending || !all(one.kv_sent));
    if (!waits)
      for (const auto& [room, places] : one.arrived)
        TROUPE_ASSERT("B15", all(places));
  }
}

} // namespace troupe::protocols
