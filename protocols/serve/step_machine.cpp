#include "protocols/serve/step_machine.hpp"

#include <algorithm>
#include <string>

#include "protocols/invariant.hpp"
#include "protocols/limits.hpp"

/// What the leader is ordered, and what it plans next. `step_machine_batch.cpp` has what every rank does with a plan.
namespace troupe::protocols {

step_machine::step_machine(const cell_plan& cell, std::uint32_t place, const options& bounds)
    : leads_(place == 0), chain_(cell.pipeline_parallel > 1),
      chooser_(cell.ranks[std::size_t{cell.pipeline_parallel - 1} * cell.tensor_parallel]), bounds_(bounds),
      places_(bounds.batch_max), seen_(bounds.batch_max) {
  rows_.reserve(bounds_.batch_max);
  emitted_.events.reserve(std::size_t{bounds_.batch_max} * (1 + bounds_.steps_ahead));
}

std::uint32_t step_machine::prompt::pieces_left() const noexcept {
  const auto left = static_cast<std::uint32_t>(what.work.prompt.size()) - done;
  return (left + limits::prefill_chunk_tokens - 1) / limits::prefill_chunk_tokens;
}

// ---- invariants ---------------------------------------------------------------------------------------------------

void step_machine::check_invariants() const noexcept {
  TROUPE_ASSERT("B18", rows_.size() <= bounds_.batch_max);
  TROUPE_ASSERT("B18", places_differ());
  TROUPE_ASSERT("G7", collected_ <= begun_ && begun_ - collected_ <= bounds_.steps_ahead + std::uint64_t{1});
  TROUPE_ASSERT("K7", waiting() <= limits::executor_queue_max);
  TROUPE_ASSERT("A7", leads_ || (waiting() == 0 && emitted_.events.empty()));
}

bool step_machine::places_differ() const noexcept {
  seen_.assign(bounds_.batch_max, false);
  for (const auto& one : rows_) {
    if (one.place >= bounds_.batch_max || seen_[one.place] || !places_[one.place])
      return false;
    seen_[one.place] = true;
  }
  return true;
}

std::size_t step_machine::waiting() const noexcept {
  return votes_.size() + towers_.size() + prompts_.size() + joining_.size();
}

bool step_machine::knows(request_id request) const noexcept {
  const auto here = [request](const auto& of, const auto& key) {
    return std::ranges::find(of, request, key) != of.end();
  };
  return here(votes_, &room_vote::request) ||
         here(prompts_, [](const prompt& each) { return each.what.work.request; }) ||
         here(joining_, [](const auto& each) { return each.sequence.request; }) ||
         here(rows_, [](const row& each) { return each.what.sequence.request; });
}

result<void> step_machine::has_room() const {
  TROUPE_ASSERT("A7", leads_ && at_ == stage::between);
  if (waiting() >= limits::executor_queue_max)
    return fail(fault::queue_full, "executor");
  return {};
}

result<void> step_machine::admit(request_id request) const {
  TROUPE_ASSERT("B18", !knows(request));
  return has_room();
}

// ---- orders -------------------------------------------------------------------------------------------------------

result<step_machine::effects> step_machine::on_vote(room_vote order) {
  const keeps_invariants checked{*this};
  if (auto room = admit(order.request); !room)
    return tl::unexpected<failure>{room.error()};
  votes_.push_back(std::move(order));
  return {};
}

result<step_machine::effects> step_machine::on_encode(const tower_item& order) {
  const keeps_invariants checked{*this};
  if (auto room = has_room(); !room)
    return tl::unexpected<failure>{room.error()};
  towers_.push_back(order);
  return {};
}

/// A token that the model does not have is found before the first collective: followers do as the plan says (K8).
result<step_machine::effects> step_machine::on_prefill(prefill_leader_machine::run_prefill order) {
  const keeps_invariants checked{*this};
  const auto request = order.work.request;
  if (auto room = admit(request); !room)
    return tl::unexpected<failure>{room.error()};
  if (auto problem = find_foreign(order.work.prompt))
    return effects{given_up{request, *std::move(problem), false}};
  if (auto problem = find_foreign(order.work.sampling))
    return effects{given_up{request, *std::move(problem), false}};
  if (order.work.prompt.empty())
    return effects{given_up{request, {fault::invalid_request, "an empty prompt"}, false}};
  prompts_.push_back({.what = std::move(order), .where = {}, .began = {}});
  return {};
}

result<step_machine::effects> step_machine::on_join(decode_leader_machine::join_batch order) {
  const keeps_invariants checked{*this};
  const auto request = order.sequence.request;
  if (auto room = admit(request); !room)
    return tl::unexpected<failure>{room.error()};
  if (auto problem = find_foreign({&order.first_token, 1}))
    return effects{given_up{request, *std::move(problem), true}, left_batch{request}};
  if (auto problem = find_foreign(order.sequence.sampling))
    return effects{given_up{request, *std::move(problem), true}, left_batch{request}};
  if (emit(order, 0, order.first_token, order.first_logprobs))
    return effects{left_batch{request}};
  joining_.push_back(std::move(order));
  return {};
}

step_machine::effects step_machine::on_leave(request_id request) {
  const keeps_invariants checked{*this};
  TROUPE_ASSERT("A7", leads_ && at_ == stage::between);
  effects out;
  for (auto& one : rows_)
    if (one.what.sequence.request == request)
      one.leaving = true;
  if (std::erase_if(joining_, [&](const auto& each) { return each.sequence.request == request; }) > 0)
    out.push_back(left_batch{request});
  if (std::erase_if(prompts_, [&](const prompt& each) { return each.what.work.request == request; }) > 0)
    out.push_back(given_up{request, {fault::cancelled, {}}, false});
  return out;
}

std::optional<failure> step_machine::find_foreign(std::span<const token_id> tokens) const {
  const auto vocabulary = static_cast<std::int64_t>(bounds_.vocabulary);
  const auto bad = std::ranges::find_if(tokens, [&](token_id id) { return id < 0 || id >= vocabulary; });
  if (bad == tokens.end())
    return std::nullopt;
  return failure{fault::invalid_request, "token " + std::to_string(*bad) + " at " +
                                             std::to_string(bad - tokens.begin()) + "; the model has " +
                                             std::to_string(vocabulary)};
}

std::optional<failure> step_machine::find_foreign(const sampling_options& sampling) const {
  if (auto problem = find_invalid(sampling, {.vocabulary = bounds_.vocabulary, .stop_ids_max = limits::ending_ids_max}))
    return failure{fault::invalid_request, *std::move(problem)};
  return std::nullopt;
}

// ---- plans --------------------------------------------------------------------------------------------------------

const mesh_plan& step_machine::warm() {
  const keeps_invariants checked{*this};
  return planned(plan_kind::warm);
}

const mesh_plan* step_machine::next(time_point now) {
  const keeps_invariants checked{*this};
  const auto kind = choose();
  if (!kind)
    return nullptr;
  switch (*kind) {
  case plan_kind::vote:
    plan_vote();
    break;
  case plan_kind::encode:
    plan_.pictures.assign(1, towers_.front());
    tower_began_ = now;
    break;
  case plan_kind::prefill:
    plan_piece(now);
    break;
  case plan_kind::decode:
    plan_decode();
    break;
  case plan_kind::stop:
    stopped_ = true;
    break;
  case plan_kind::warm:
    break;
  }
  voted_last_ = *kind == plan_kind::vote;
  return &planned(*kind);
}

std::optional<plan_kind> step_machine::choose() const noexcept {
  if (stopped_)
    return std::nullopt;
  if (stopping_)
    return plan_kind::stop;
  std::optional<plan_kind> computes;
  if (!towers_.empty())
    computes = plan_kind::encode;
  else if (!prompts_.empty())
    computes = plan_kind::prefill;
  else if (!rows_.empty() || !joining_.empty())
    computes = plan_kind::decode;
  return !votes_.empty() && !(voted_last_ && computes) ? plan_kind::vote : computes;
}

const mesh_plan& step_machine::planned(plan_kind kind) {
  TROUPE_ASSERT("A7", leads_ && at_ == stage::between);
  at_ = stage::planned;
  plan_.kind = kind;
  plan_.call = next_call_;
  next_call_ = next_call_.next();
  return plan_;
}

void step_machine::plan_vote() {
  plan_.rooms.clear();
  asked_.clear();
  const auto fits = [&] { return plan_.rooms.size() + votes_.front().rooms.size() <= limits::vote_rooms_max; };
  while (!votes_.empty() && (asked_.empty() || fits())) {
    const auto& [request, rooms] = votes_.front();
    plan_.rooms.insert(plan_.rooms.end(), rooms.begin(), rooms.end());
    asked_.push_back({request, rooms.size()});
    votes_.pop_front();
  }
}

step_machine::prompt& step_machine::pick_prompt() {
  auto next =
      std::ranges::find_if(prompts_, [](const prompt& each) { return each.passes >= limits::prompt_passes_max; });
  if (next == prompts_.end())
    next = std::ranges::min_element(prompts_, {}, &prompt::pieces_left);
  for (auto earlier = prompts_.begin(); earlier != next; ++earlier)
    ++earlier->passes;
  next->passes = 0;
  return *next;
}

void step_machine::plan_piece(time_point now) {
  auto& of = pick_prompt();
  const auto& work = of.what.work;
  if (of.done == 0) {
    of.where = positions_of(work.prompt, work.pictures, std::max(bounds_.merge, 1u));
    of.began = now;
  }
  const auto begin = of.done;
  const auto whole = static_cast<std::uint32_t>(work.prompt.size());
  const auto end = std::min(whole, begin + limits::prefill_chunk_tokens);
  auto& piece = plan_.prefill;
  piece.request = work.request;
  piece.kv_room = work.kv_room;
  piece.ids.assign(work.prompt.begin() + begin, work.prompt.begin() + end);
  piece.positions.assign(of.where.positions.begin() + begin, of.where.positions.begin() + end);
  piece.begin = begin;
  piece.last = end == whole;
  piece.blocks = of.what.blocks;
  piece.decode_cell = work.decode_cell;
  piece.sampling = piece.last ? work.sampling : sampling_options{};
  if (piece.sampling.rules.repeats_cost())
    piece.sampling.rules.prompt_ids = distinct(work.prompt);
  piece.pictures.clear();
  for (std::size_t i = 0; i < work.pictures.size(); ++i) {
    const auto& picture = work.pictures[i];
    if (picture.first_token < end && picture.first_token + picture.tokens > begin)
      piece.pictures.push_back({picture.first_token, picture.tokens, of.what.rows[i]});
  }
}

/// One token for every sequence. Those that ended or were told to go leave with this plan, those that were handed over
/// since the last one enter with it, as far as the batch and a frame have room for them.
void step_machine::plan_decode() {
  auto& step = plan_.decode;
  step.leaves.clear();
  step.joins.clear();
  step.ids.clear();
  for (const auto& one : rows_) {
    if (one.leaving)
      step.leaves.push_back(one.what.sequence.request);
    else
      step.ids.push_back(one.newest);
  }
  std::size_t prompt_ids = 0;
  for (const auto& each : joining_) {
    prompt_ids += each.sequence.sampling.rules.prompt_ids.size();
    if (step.ids.size() == bounds_.batch_max || (prompt_ids > limits::plan_prompt_ids_max && !step.joins.empty()))
      break;
    step.joins.push_back(each.sequence);
    step.ids.push_back(each.first_token);
  }
}

} // namespace troupe::protocols
