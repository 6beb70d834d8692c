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

} // namespace

decode_leader_machine::decode_leader_machine(const cluster_plan& plan, cell_id cell, options bounds)
    : cell_(plan.cell(cell)), bounds_(bounds), blocks_(bounds.kv_blocks) {}

void decode_leader_machine::tell_front(request_id request, const failure& cause, effects& out) const {
  out.push_back(request_failed(cell_, bounds_.front, "decode", request, cause));
}

decode_leader_machine::effects decode_leader_machine::on_reserve(const reserve_kv& order, time_point now) {
  effects out;
  if (ended_.buried(order.request.value) || requests_.contains(order.request))
    return out;
  if (requests() >= bounds_.requests_max) {
    tell_front(order.request, failure{fault::queue_full, "decode queue"}, out);
    return out;
  }
  const auto whole = std::uint64_t{order.prompt_tokens} + order.max_tokens;
  if (const auto room = std::uint64_t{bounds_.kv_blocks} * limits::kv_block_tokens; whole > room) {
    // What never fits would hold up everything behind it.
    tell_front(order.request,
               failure{fault::no_memory, std::to_string(whole) + " tokens; this cell holds " + std::to_string(room)},
               out);
    return out;
  }
  out.push_back(send_message{bounds_.front, ack{order.request}});
  waiting_.join(order, now);
  admit(out, now);
  return out;
}

void decode_leader_machine::admit(effects& out, time_point now) {
  while (!waiting_.empty()) {
    const auto& next = waiting_.first();
    const auto whole = next.prompt_tokens + next.max_tokens;
    auto blocks = blocks_.reserve((whole + limits::kv_block_tokens - 1) / limits::kv_block_tokens);
    if (!blocks)
      return;
    auto [order, until] = waiting_.take_first();
    request_state state{.at = stage::receiving,
                        .order = std::move(order),
                        .deadline = until,
                        .blocks = *std::move(blocks),
                        .landed = std::vector<bool>(cell_.ranks.size(), false),
                        .first = std::nullopt,
                        .ending = false};
    reservations_ = reservations_.next();
    for (const auto member : cell_.ranks)
      out.push_back(send_message{member, reserve_blocks{.request = state.order.request,
                                                        .room = state.order.room,
                                                        .prompt_tokens = state.order.prompt_tokens,
                                                        .blocks = state.blocks,
                                                        .tenancy = reservations_,
                                                        .prefill_cell = state.order.prefill_cell,
                                                        .deadline_ms = ms_left(until, now)}});
    const auto which = requests_.emplace(state.order.request, std::move(state)).first;
    if (const auto early = early_.extract(which->first); !early.empty())
      take_handover(which, early.mapped(), out, now);
  }
}

decode_leader_machine::effects decode_leader_machine::on_handover(const handover& news, time_point now) {
  effects out;
  if (ended_.buried(news.request.value))
    return out;
  const auto which = requests_.find(news.request);
  if (which == requests_.end()) {
    if (early_.size() < bounds_.requests_max)
      early_.emplace(news.request, news);
    return out;
  }
  if (!which->second.first) // once is enough (D10)
    take_handover(which, news, out, now);
  return out;
}

void decode_leader_machine::take_handover(iterator which, const handover& news, effects& out, time_point now) {
  if (auto problem = judge_handover(which->second.order, news)) {
    tell_front(which->first, *problem, out);
    end(which, out, now);
    return;
  }
  which->second.first = news; // stored before anything flips (F14)
  // Until now others were served first, which is the request's own time; from now on bytes are on their way.
  which->second.deadline = std::min(which->second.deadline, now + bounds_.room_deadline);
  vote_if_whole(which, out);
}

decode_leader_machine::effects decode_leader_machine::on_landed(const landed& news, std::uint32_t place, time_point) {
  effects out;
  const auto which = requests_.find(news.request);
  if (which == requests_.end() || place >= which->second.landed.size())
    return out;
  which->second.landed[place] = true;
  vote_if_whole(which, out);
  return out;
}

void decode_leader_machine::vote_if_whole(iterator which, effects& out) {
  auto& one = which->second;
  const bool whole = one.first && all(one.landed);
  if (one.at != stage::receiving || !whole)
    return;
  one.at = stage::voting;
  out.push_back(vote{.request = which->first, .rooms = {one.order.room}});
}

decode_leader_machine::effects decode_leader_machine::on_vote(request_id request, const std::vector<admission>& minimum,
                                                              time_point now) {
  effects out;
  const auto which = requests_.find(request);
  if (which == requests_.end() || which->second.at != stage::voting)
    return out;
  auto& one = which->second;
  const auto least = *std::min_element(minimum.begin(), minimum.end());
  if (one.ending) {
    end(which, out, now);
    return out;
  }
  if (least == admission::failed) {
    tell_front(request, failure{fault::not_admitted, "keys and values of the prompt are not whole on every rank"}, out);
    end(which, out, now);
    return out;
  }
  if (least == admission::pending) {
    one.at = stage::receiving;
    return out;
  }
  one.at = stage::joined;
  out.push_back(join_batch{.sequence = {.request = request,
                                        .context = one.first->length,
                                        .position_delta = one.first->position_delta,
                                        .blocks = one.blocks,
                                        .sampling = one.order.sampling},
                           .first_token = one.first->first_token,
                           .max_tokens = one.order.max_tokens,
                           .end_tokens = one.order.end_tokens});
  return out;
}

decode_leader_machine::effects decode_leader_machine::on_left(request_id request, time_point now) {
  effects out;
  if (const auto which = requests_.find(request); which != requests_.end() && which->second.at == stage::joined)
    end(which, out, now);
  return out;
}

decode_leader_machine::effects decode_leader_machine::on_given_up(request_id request, const failure& cause) const {
  effects out;
  if (const auto which = requests_.find(request); which != requests_.end() && which->second.at == stage::joined)
    tell_front(request, cause, out);
  return out;
}

decode_leader_machine::effects decode_leader_machine::on_cancel(request_id request, time_point now) {
  effects out;
  waiting_.leave(request);
  early_.erase(request);
  const auto which = requests_.find(request);
  if (which == requests_.end()) {
    ended_.bury(request.value);
    admit(out, now);
    return out;
  }
  switch (which->second.at) {
  case stage::receiving:
    end(which, out, now); // prefill ranks may be writing: the blocks rest first (K2)
    break;
  case stage::voting:
    which->second.ending = true;
    break;
  case stage::joined:
    out.push_back(leave_batch{request});
    break;
  }
  return out;
}

void decode_leader_machine::end(iterator which, effects& out, time_point now) {
  resting_[which->first] = {std::move(which->second.blocks), std::vector<bool>(cell_.ranks.size(), false)};
  for (const auto member : cell_.ranks)
    out.push_back(send_message{member, release{which->first}});
  ended_.bury(which->first.value);
  requests_.erase(which);
  admit(out, now);
}

decode_leader_machine::effects decode_leader_machine::on_quiet(const blocks_quiet& word, std::uint32_t place,
                                                               time_point now) {
  effects out;
  const auto found = resting_.find(word.request);
  if (found == resting_.end() || place >= found->second.quiet.size())
    return out;
  auto& [blocks, quiet] = found->second;
  quiet[place] = true;
  if (!all(quiet))
    return out;
  (void)blocks_.release(blocks);
  resting_.erase(found);
  admit(out, now);
  return out;
}

decode_leader_machine::effects decode_leader_machine::on_tick(time_point now) {
  effects out;
  for (auto each = requests_.begin(); each != requests_.end();) {
    const auto current = each++;
    const auto& one = current->second;
    if (one.at != stage::receiving || now < one.deadline)
      continue;
    const auto missing = std::count(one.landed.begin(), one.landed.end(), false);
    tell_front(current->first,
               failure{fault::timeout, one.first ? "keys and values had not landed on " + std::to_string(missing) +
                                                       " ranks within timeouts.room_ms"
                                                 : "no first token within the request's time"},
               out);
    end(current, out, now);
  }
  admit(out, now);
  return out;
}

} // namespace troupe::protocols
