#include <algorithm>

#include "protocols/mesh/places.hpp"
#include "protocols/serve/prefill_machine.hpp"

namespace troupe::protocols {

prefill_leader_machine::prefill_leader_machine(const cluster_plan& plan, cell_id cell, options bounds)
    : plan_(plan), cell_(plan.cell(cell)), bounds_(bounds), blocks_(bounds.kv_blocks), rows_(bounds.row_slots) {}

void prefill_leader_machine::tell_front(request_id request, const failure& cause, effects& out) const {
  out.push_back(request_failed(cell_, bounds_.front, "prefill", request, cause));
}

prefill_leader_machine::effects prefill_leader_machine::on_submit(const submit& work, time_point now) {
  effects out;
  if (ended_.buried(work.request.value) || requests_.contains(work.request))
    return out;
  const auto refuse = [&](fault code, std::string what) {
    tell_front(work.request, failure{code, std::move(what)}, out);
    return out;
  };
  if (requests() >= bounds_.requests_max)
    return refuse(fault::queue_full, "prefill queue");
  // What never fits would hold up everything behind it.
  if (work.pictures.size() > bounds_.row_slots)
    return refuse(fault::no_memory, std::to_string(work.pictures.size()) + " pictures; this cell holds " +
                                        std::to_string(bounds_.row_slots));
  if (work.prompt.size() > std::uint64_t{bounds_.kv_blocks} * limits::kv_block_tokens)
    return refuse(fault::no_memory, std::to_string(work.prompt.size()) + " prompt tokens; this cell holds " +
                                        std::to_string(std::uint64_t{bounds_.kv_blocks} * limits::kv_block_tokens));
  out.push_back(send_message{bounds_.front, ack{work.request}});
  waiting_.join(work, now);
  admit(out, now);
  return out;
}

void prefill_leader_machine::admit(effects& out, time_point now) {
  while (!waiting_.empty()) {
    const auto& next = waiting_.first();
    if (rows_.available() < next.pictures.size())
      return;
    const auto prompt_tokens = static_cast<std::uint32_t>(next.prompt.size());
    auto blocks = blocks_.reserve((prompt_tokens + limits::kv_block_tokens - 1) / limits::kv_block_tokens);
    if (!blocks)
      return;

    auto [work, until] = waiting_.take_first();
    request_state state{.at = stage::gathering,
                        .work = std::move(work),
                        .deadline = until,
                        .blocks = *std::move(blocks),
                        .rows = {},
                        .landed = {},
                        .shipped = std::vector<bool>(cell_.ranks.size(), false),
                        .ending = std::nullopt};
    for (const auto& picture : state.work.pictures) {
      const auto slot = *rows_.acquire();
      state.rows.push_back(slot);
      state.landed.emplace(picture.room, std::vector<bool>(cell_.ranks.size(), false));
      for (const auto member : cell_.ranks)
        out.push_back(send_message{member, reserve_rows{.request = state.work.request,
                                                        .room = picture.room,
                                                        .slot = slot,
                                                        .tokens = picture.tokens,
                                                        .encode_cell = picture.encode_cell,
                                                        .deadline_ms = ms_left(until, now)}});
    }
    const auto [which, inserted] = requests_.emplace(state.work.request, std::move(state));
    vote_if_whole(which, out);
  }
}

/// A request without pictures has nothing to wait for (I29).
void prefill_leader_machine::vote_if_whole(iterator which, effects& out) {
  auto& one = which->second;
  if (one.at != stage::gathering)
    return;
  if (one.work.pictures.empty()) {
    one.at = stage::running;
    out.push_back(run_prefill{one.work, one.blocks, {}});
    return;
  }
  vote question{.request = which->first, .rooms = {}};
  for (const auto& [room, places] : one.landed) {
    if (!all(places))
      return;
    question.rooms.push_back(room);
  }
  one.at = stage::voting;
  out.push_back(std::move(question));
}

prefill_leader_machine::effects prefill_leader_machine::on_landed(const landed& news, std::uint32_t place, time_point) {
  effects out;
  const auto which = requests_.find(news.request);
  if (which == requests_.end())
    return out;
  const auto room = which->second.landed.find(news.room);
  if (room == which->second.landed.end() || place >= room->second.size())
    return out;
  room->second[place] = true; // again: nothing new, and the others are still awaited (D19)
  vote_if_whole(which, out);
  return out;
}

prefill_leader_machine::effects prefill_leader_machine::on_vote(request_id request,
                                                                const std::vector<admission>& minimum, time_point now) {
  effects out;
  const auto which = requests_.find(request);
  if (which == requests_.end() || which->second.at != stage::voting)
    return out;
  auto& one = which->second;
  const auto least = *std::min_element(minimum.begin(), minimum.end());
  if (!one.ending && least == admission::failed)
    one.ending = failure{fault::not_admitted, "a rank of the mesh cannot get the picture's rows"};
  if (one.ending) {
    tell_front(request, *one.ending, out);
    end(which, out, now);
    return out;
  }
  if (least == admission::pending) {
    one.at = stage::gathering; // until the next news or the deadline
    return out;
  }
  one.at = stage::running;
  run_prefill order{.work = one.work, .blocks = one.blocks, .rows = {}};
  for (const auto& slot : one.rows)
    order.rows.push_back(slot.slot);
  out.push_back(std::move(order));
  return out;
}

prefill_leader_machine::effects prefill_leader_machine::on_prefilled(request_id request, token_id first_token,
                                                                     std::int32_t position_delta, std::uint64_t digest,
                                                                     time_point now) {
  effects out;
  const auto which = requests_.find(request);
  if (which == requests_.end() || which->second.at != stage::running)
    return out;
  auto& one = which->second;
  if (!one.ending)
    out.push_back(send_message{plan_.cell(one.work.decode_cell).leader(),
                               handover{.request = request,
                                        .room = one.work.kv_room,
                                        .first_token = first_token,
                                        .position_delta = position_delta,
                                        .length = static_cast<std::uint32_t>(one.work.prompt.size()),
                                        .digest = digest}});
  await_shipped(which, out, now);
  return out;
}

void prefill_leader_machine::await_shipped(iterator which, effects& out, time_point now) {
  auto& one = which->second;
  one.at = stage::shipping;
  if (all(one.shipped)) // every rank of the mesh was quicker than the news of the first token
    end(which, out, now);
  else if (one.ending)
    release_members(which->first, out);
}

prefill_leader_machine::effects prefill_leader_machine::on_given_up(request_id request, const failure& cause,
                                                                    bool ran_whole, time_point now) {
  effects out;
  const auto which = requests_.find(request);
  if (which == requests_.end() || which->second.at != stage::running)
    return out;
  auto& one = which->second;
  if (!one.ending) {
    one.ending = cause;
    tell_front(request, cause, out);
  }
  if (ran_whole)
    await_shipped(which, out, now);
  else
    end(which, out, now);
  return out;
}

/// What the decode ranks are still being sent is kept until every rank of the mesh has shipped (C23).
prefill_leader_machine::effects prefill_leader_machine::on_shipped(const shipped& news, std::uint32_t place,
                                                                   time_point now) {
  effects out;
  const auto which = requests_.find(news.request);
  if (which == requests_.end() || place >= which->second.shipped.size() || which->second.shipped[place])
    return out;
  auto& one = which->second;
  one.shipped[place] = true;
  if (news.code != 0 && !one.ending) {
    one.ending = failure{fault_from(news.code).value_or(fault::transfer_failed), news.message};
    tell_front(news.request, *one.ending, out);
  }
  if (one.at == stage::shipping && all(one.shipped))
    end(which, out, now);
  return out;
}

prefill_leader_machine::effects prefill_leader_machine::on_cancel(request_id request, time_point now) {
  effects out;
  if (waiting_.leave(request)) {
    ended_.bury(request.value);
    admit(out, now);
    return out;
  }
  const auto which = requests_.find(request);
  if (which == requests_.end()) {
    ended_.bury(request.value);
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
    out.push_back(stop_prefill{request}); // and with it the prompt, or else its last piece
    release_members(request, out);        // nothing of it is written meanwhile
    break;
  case stage::shipping:
    release_members(request, out);
    break;
  }
  return out;
}

void prefill_leader_machine::release_members(request_id request, effects& out) const {
  for (const auto member : cell_.ranks)
    out.push_back(send_message{member, release{request}});
}

/// Everything of the request is free again on every rank; row slots when nobody can write there any more (F13, K2).
void prefill_leader_machine::end(iterator which, effects& out, time_point now) {
  auto& one = which->second;
  (void)blocks_.release(one.blocks);
  if (!one.rows.empty())
    resting_[which->first] = {std::move(one.rows), std::vector<bool>(cell_.ranks.size(), false)};
  release_members(which->first, out);
  ended_.bury(which->first.value);
  requests_.erase(which);
  admit(out, now);
}

prefill_leader_machine::effects prefill_leader_machine::on_quiet(const rows_quiet& word, std::uint32_t place,
                                                                 time_point now) {
  effects out;
  const auto found = resting_.find(word.request);
  if (found == resting_.end() || place >= found->second.quiet.size())
    return out; // of a request without rows, or one that has not ended for everybody
  auto& [slots, quiet] = found->second;
  quiet[place] = true;
  if (!all(quiet))
    return out;
  for (const auto& slot : slots)
    (void)rows_.release(slot);
  resting_.erase(found);
  admit(out, now);
  return out;
}

prefill_leader_machine::effects prefill_leader_machine::on_tick(time_point now) {
  effects out;
  for (auto each = requests_.begin(); each != requests_.end();) {
    const auto current = each++;
    auto& one = current->second;
    if (one.at != stage::gathering || now < one.deadline)
      continue;
    std::size_t missing = 0;
    for (const auto& [room, places] : one.landed)
      missing += static_cast<std::size_t>(std::count(places.begin(), places.end(), false));
    tell_front(current->first,
               failure{fault::timeout, std::to_string(missing) + " of " +
                                           std::to_string(one.landed.size() * cell_.ranks.size()) +
                                           " row transfers had not landed within the request's time"},
               out);
    end(current, out, now);
  }
  admit(out, now);
  return out;
}

} // namespace troupe::protocols
