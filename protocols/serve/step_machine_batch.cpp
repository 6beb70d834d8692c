#include <algorithm>
#include <string>
#include <utility>

#include "protocols/invariant.hpp"
#include "protocols/serve/prompt_digest.hpp"
#include "protocols/serve/step_machine.hpp"

/// What every rank does with a plan: the batch changes, and what a step has told finds its owner.
namespace troupe::protocols {

result<void> step_machine::begin(const mesh_plan& plan) {
  const keeps_invariants checked{*this};
  TROUPE_ASSERT("A7", at_ == (leads_ ? stage::planned : stage::between));
  work_.clear();
  if (plan.kind == plan_kind::decode) {
    if (auto changed = change_batch(plan.decode); !changed)
      return changed;
    measure_work();
  }
  at_ = stage::begun;
  return {};
}

/// Leaves, then joins, as announced. The ranks of a mesh choose each token for themselves, from the same logits; that
/// they chose the same is checked here, a step later, against what the leader was told (B11, G7).
result<void> step_machine::change_batch(const decode_step& step) {
  for (const auto request : step.leaves)
    let_leave(request);
  const auto stayed = rows_.size();
  if (step.ids.size() != stayed + step.joins.size() || step.ids.size() > bounds_.batch_max)
    return fail(fault::plan_mismatch, "decode step of " + std::to_string(step.ids.size()) + " rows, this rank has " +
                                          std::to_string(stayed) + " and " + std::to_string(step.joins.size()) +
                                          " join");
  for (std::size_t i = 0; !chain_ && i < stayed; ++i)
    if (rows_[i].newest != step.ids[i])
      return fail(fault::plan_mismatch, "token " + std::to_string(rows_[i].newest) + " of request " +
                                            std::to_string(rows_[i].what.sequence.request.value) +
                                            " on this rank, the leader has " + std::to_string(step.ids[i]));
  for (std::size_t i = 0; chain_ && i < stayed; ++i)
    if (rows_[i].what.sequence.sampling.rules.counts_tokens())
      rows_[i].answer.push_back(step.ids[i]);
  for (std::size_t i = 0; i < step.joins.size(); ++i)
    let_join(step.joins[i], step.ids[stayed + i]);
  return {};
}

void step_machine::let_leave(request_id request) {
  const auto found = std::ranges::find(rows_, request, [](const row& one) { return one.what.sequence.request; });
  if (found == rows_.end())
    return;
  places_[found->place] = false;
  work_.leaves.push_back(found->place);
  rows_.erase(found);
}

void step_machine::let_join(const sequence_join& who, token_id newest) {
  auto& one = rows_.emplace_back();
  if (leads_) {
    TROUPE_ASSERT("B18", !joining_.empty() && joining_.front().sequence.request == who.request);
    one.what = std::move(joining_.front());
    joining_.pop_front();
  } else
    one.what.sequence = who;
  one.context = who.context;
  one.newest = newest;
  one.place = take_place();
  one.entered = begun_;
  if (chain_ && who.sampling.rules.counts_tokens())
    one.answer.assign(1, newest);
  work_.joins.push_back(one.place);
}

std::uint32_t step_machine::take_place() {
  const auto free = std::ranges::find(places_, false);
  TROUPE_ASSERT("B18", free != places_.end());
  *free = true;
  return static_cast<std::uint32_t>(free - places_.begin());
}

/// Works out whether a step begins, and how many steps are to be collected after it.
void step_machine::measure_work() {
  work_.steps = !rows_.empty();
  if (chain_) {
    for (const auto& one : rows_)
      work_.rows.push_back({.context = one.context,
                            .position = static_cast<std::int32_t>(one.context) + one.what.sequence.position_delta,
                            .answer_index = one.context + std::uint64_t{1} - one.what.sequence.context,
                            .blocks = one.what.sequence.blocks,
                            .sampling = &one.what.sequence.sampling,
                            .answer = one.answer});
    return;
  }
  if (work_.steps)
    ++begun_;
  const auto under_way = std::min<std::uint64_t>(begun_ - collected_, work_.steps ? bounds_.steps_ahead : 0);
  work_.collects = static_cast<std::uint32_t>(begun_ - collected_ - under_way);
}

// ---- results ------------------------------------------------------------------------------------------------------

step_machine::effects step_machine::on_done(const mesh_plan& plan, const step_outcome& outcome, time_point now) {
  const keeps_invariants checked{*this};
  TROUPE_ASSERT("A7", at_ == stage::begun);
  at_ = stage::between;
  effects out;
  switch (plan.kind) {
  case plan_kind::warm:
  case plan_kind::stop:
    break;
  case plan_kind::vote:
    on_voted(outcome, out);
    break;
  case plan_kind::encode:
    if (leads_) {
      out.push_back(tower_ended{towers_.front().room, tower_began_, now});
      towers_.pop_front();
    }
    break;
  case plan_kind::prefill:
    on_piece(plan.prefill, outcome, now, out);
    break;
  case plan_kind::decode:
    on_stepped(plan.decode, outcome, out);
    break;
  }
  return out;
}

void step_machine::on_voted(const step_outcome& outcome, effects& out) {
  auto vote = outcome.votes.begin();
  for (const auto& [request, rooms] : asked_) {
    TROUPE_ASSERT("B15", outcome.votes.end() - vote >= static_cast<std::ptrdiff_t>(rooms));
    voted answer{request, {}};
    for (std::size_t i = 0; i < rooms; ++i)
      answer.minimum.push_back(static_cast<admission>(*vote++));
    out.push_back(std::move(answer));
  }
  asked_.clear();
}

void step_machine::on_piece(const prefill_step& piece, const step_outcome& outcome, time_point now, effects& out) {
  if (!leads_)
    return;
  const auto of = std::ranges::find(prompts_, piece.request, [](const prompt& each) { return each.what.work.request; });
  TROUPE_ASSERT("A7", of != prompts_.end());
  of->done += static_cast<std::uint32_t>(piece.ids.size());
  if (!piece.last)
    return;
  TROUPE_ASSERT("B11", outcome.chosen.size() == 1);
  const auto chosen = outcome.chosen.front();
  if (chosen == not_finite)
    out.push_back(given_up{piece.request, not_finite_at(0), true});
  else
    out.push_back(first_token{piece.request, chosen, of->where.delta, prompt_digest(of->what.work.prompt), of->began,
                              now, outcome.logprobs});
  prompts_.erase(of);
}

void step_machine::on_stepped(const decode_step& step, const step_outcome& outcome, effects& out) {
  TROUPE_ASSERT("G7", outcome.collected == work_.collects);
  auto token = outcome.tokens.begin();
  for (std::uint32_t i = 0; i < outcome.collected; ++i)
    for (++collected_; token != outcome.tokens.end() && token->step == i; ++token)
      take_token(token->place, token->id, std::span{outcome.logprobs}.subspan(token->first_logprob, token->logprobs),
                 out);
  TROUPE_ASSERT("B11", !chain_ || !leads_ || outcome.chosen.size() == rows_.size());
  std::size_t told = 0; // log-probabilities of the rows before
  for (std::size_t i = 0; chain_ && i < rows_.size(); ++i) {
    ++rows_[i].context;
    if (!leads_)
      continue;
    rows_[i].newest = outcome.chosen[i];
    const auto own = rows_[i].what.sequence.sampling.rules.told();
    answer(rows_[i], std::span{outcome.logprobs}.subspan(std::exchange(told, told + own), own), out);
  }
  for (std::size_t i = 0; leads_ && i < step.leaves.size(); ++i)
    out.push_back(left_batch{step.leaves[i]});
}

void step_machine::take_token(std::uint32_t place, token_id id, std::span<const token_logprob> logprobs, effects& out) {
  // A place may have passed to a new sequence; tokens of steps that began before it joined are dropped.
  const auto found =
      std::ranges::find_if(rows_, [&](const row& one) { return one.place == place && one.entered < collected_; });
  if (found == rows_.end() || id == no_token)
    return;
  found->newest = id;
  ++found->context;
  if (leads_)
    answer(*found, logprobs, out);
}

void step_machine::answer(row& one, std::span<const token_logprob> logprobs, effects& out) {
  TROUPE_ASSERT("B18", !one.ended); // it leaves with the plan after its last token, before the next step is collected
  if (one.newest == not_finite) {   // this sequence alone: rows do not touch each other (K8)
    one.ended = one.leaving = true;
    out.push_back(given_up{one.what.sequence.request, not_finite_at(one.answered), true});
    return;
  }
  one.ended = emit(one.what, one.answered, one.newest, logprobs);
  ++one.answered;
  one.leaving = one.leaving || one.ended;
}

/// Before `min_tokens` nothing that ends an answer is chosen; that rule stands here too, so that it depends on no
/// rank's arithmetic.
bool step_machine::emit(const decode_leader_machine::join_batch& of, std::uint32_t index, token_id id,
                        std::span<const token_logprob> logprobs) {
  const auto& rules = of.sequence.sampling.rules;
  const bool ends = index + 1 > rules.min_tokens && std::ranges::find(of.end_tokens, id) != of.end_tokens.end();
  const auto finish = ends                         ? finish_reason::stop
                      : index + 1 >= of.max_tokens ? finish_reason::length
                                                   : finish_reason::none;
  if (rules.logprobs && !logprobs.empty()) {
    auto& told = emitted_.logprobs.emplace_back(
        event_logprobs{static_cast<std::uint32_t>(emitted_.events.size()), {logprobs.begin(), logprobs.end()}});
    std::erase_if(told.values, [](const token_logprob& each) { return each.id < 0; }); // a vocabulary of fewer
  }
  emitted_.events.push_back({of.sequence.request, index, id, finish});
  return finish != finish_reason::none;
}

failure step_machine::not_finite_at(std::uint32_t answer_index) const {
  return {fault::not_finite,
          "token " + std::to_string(answer_index) + " of the answer, rank " + std::to_string(chooser_.value)};
}

} // namespace troupe::protocols
