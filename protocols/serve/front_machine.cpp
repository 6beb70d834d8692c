#include "protocols/serve/front_machine.hpp"

#include "protocols/serve/roles.hpp"
#include <algorithm>
#include <utility>

namespace troupe::protocols {

namespace {

/// Transient faults: another attempt may succeed.
bool passes(fault code) noexcept {
  return code == fault::peer_gone || code == fault::cell_gone || code == fault::transfer_failed ||
         code == fault::stale_grant || code == fault::timeout || code == fault::queue_full;
}

} // namespace

front_machine::front_machine(const cluster_plan& plan, options bounds)
    : plan_(plan), bounds_(std::move(bounds)), staging_(bounds_.staging_slots) {
  const auto load_of = [&](role_kind role) {
    std::vector<cell_load> cells;
    for (const auto id : plan.cells_of(role))
      cells.push_back({.id = id, .blocks = 0, .rows = 0, .credits = {}, .is = presence::serving});
    return cells;
  };
  encode_cells_ = load_of(serve_role::encode);
  prefill_cells_ = load_of(serve_role::prefill);
  decode_cells_ = load_of(serve_role::decode);
}

std::optional<failure> front_machine::judge(const request& wanted) const {
  if (drain_until_)
    return failure{fault::shutting_down, {}};
  if (wanted.prompt.empty())
    return failure{fault::invalid_request, "the prompt has no token"};
  const auto for_answer = std::max(wanted.max_tokens, 1u);
  if (wanted.prompt.size() + for_answer > tokens_max())
    return failure{fault::context_exceeded, std::to_string(wanted.prompt.size()) + " prompt tokens and " +
                                                std::to_string(for_answer) + " for the answer; at most " +
                                                std::to_string(tokens_max()) + " together"};
  if (auto problem = judge_sampling(wanted))
    return problem;
  if (!wanted.pictures.empty() && encode_cells_.empty())
    return failure{fault::invalid_request, "this cluster has no encode cell; text only"};
  // A request takes its slots as one, so one that needs more than there are would wait for ever.
  const auto slots = bounds_.pixel_slots * static_cast<std::uint32_t>(encode_cells_.size());
  const auto pictures_max = std::min({bounds_.row_slots, slots, limits::pictures_per_request_max});
  if (wanted.pictures.size() > pictures_max)
    return failure{fault::invalid_request, std::to_string(wanted.pictures.size()) + " pictures; at most " +
                                               std::to_string(pictures_max) + " in one request"};
  for (const auto& each : wanted.pictures)
    if (each.tokens == 0 || each.tokens > bounds_.picture_tokens_max ||
        std::uint64_t{each.first_token} + each.tokens > wanted.prompt.size())
      return failure{fault::invalid_request, "a picture's tokens lie outside the prompt"};
  return std::nullopt;
}

std::optional<failure> front_machine::judge_sampling(const request& wanted) const {
  if (auto problem =
          find_invalid(wanted.sampling, {.vocabulary = bounds_.vocabulary, .stop_ids_max = limits::stop_ids_max}))
    return failure{fault::invalid_request, *std::move(problem)};
  if (auto problem = find_invalid(wanted.trace))
    return failure{fault::invalid_request, *std::move(problem)};
  if (wanted.max_tokens != 0 && wanted.sampling.rules.min_tokens > wanted.max_tokens)
    return failure{fault::invalid_request, "min_tokens is " + std::to_string(wanted.sampling.rules.min_tokens) +
                                               "; at most max_tokens, " + std::to_string(wanted.max_tokens)};
  return std::nullopt;
}

std::uint32_t front_machine::answer_room(std::size_t prompt_tokens) const noexcept {
  return prompt_tokens < tokens_max() ? tokens_max() - static_cast<std::uint32_t>(prompt_tokens) : 0;
}

/// A refusal leaves nothing behind, so that a burst is over when its last request has ended (C39).
result<front_machine::effects> front_machine::on_request(request wanted, time_point now) {
  const keeps_invariants checked{*this, wanted.id};
  if (auto problem = judge(wanted))
    return tl::unexpected<failure>{*std::move(problem)};
  if (waiting_.size() >= bounds_.in_flight_max)
    return fail(fault::queue_full, std::to_string(waiting_.size()) + " requests wait; try again later");
  const auto deadline = wanted.asked + time_of(wanted.timeout_ms, bounds_.request_deadline);
  if (wanted.max_tokens == 0)
    wanted.max_tokens = answer_room(wanted.prompt.size());
  waiting_.push_back({.what = std::move(wanted), .place = next_place_++, .deadline = deadline, .attempts = 0});
  effects out;
  admit(out, now);
  return out;
}

std::optional<request_id> front_machine::request_of(request_id attempt) const {
  const auto found = started_.find(attempt);
  return found == started_.end() ? std::nullopt : std::optional{found->second.of.what.id};
}

/// A slot that is held already was granted by an earlier generation of the cell: the later word counts.
front_machine::effects front_machine::on_pixel_credits(rank_id from, const grant_pixels& credits, time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  hear(from);
  for (auto& cell : encode_cells_)
    if (plan_.cell(cell.id).leader() == from) {
      cell.born = credits.born;
      for (const auto& slot : credits.slots) {
        std::erase_if(cell.credits, [&](const slot_ref& held) { return held.slot == slot.slot; });
        if (slot.slot.value < bounds_.pixel_slots)
          cell.credits.push_back(slot);
      }
    }
  admit(out, now);
  return out;
}

front_machine::effects front_machine::on_tokens(rank_id from, const tokens& batch, time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  hear(from);
  auto logprobs = batch.logprobs.begin();
  for (std::uint32_t i = 0; i < batch.events.size(); ++i) {
    const auto& event = batch.events[i];
    while (logprobs != batch.logprobs.end() && logprobs->event < i)
      ++logprobs;
    const auto found = started_.find(event.request);
    if (found == started_.end() || plan_.cell(found->second.decode).leader() != from)
      continue; // ended before, or never ours: a late token is dropped on sight (D4, D11)
    auto& one = found->second;
    if (event.index < one.next_index)
      continue; // emitted before (D16)
    if (event.index > one.next_index) {
      end(found, finish_reason::failed,
          failure{fault::wrong_sequence, "token " + std::to_string(event.index) + " came where " +
                                             std::to_string(one.next_index) + " was due"},
          out);
      continue;
    }
    if (one.next_index == 0) {
      leave_prefill(one);
      leave_pictures(found->first, false, out); // the cell has given their pixel slots back itself
    }
    ++one.next_index;
    const bool told = logprobs != batch.logprobs.end() && logprobs->event == i;
    out.push_back(emit_token{one.of.what.id, event.index, event.id, event.finish,
                             told ? logprobs->values : std::vector<token_logprob>{}});
    if (event.finish != finish_reason::none)
      end(found, event.finish, std::nullopt, out);
  }
  admit(out, now);
  return out;
}

time_point front_machine::half_time(const entry& attempt) {
  return attempt.began + (attempt.of.deadline - attempt.began) / 2;
}

void front_machine::hear(rank_id from) {
  for (auto* const cells : {&encode_cells_, &prefill_cells_, &decode_cells_})
    for (auto& cell : *cells)
      if (plan_.cell(cell.id).leader() == from)
        cell.quiet = false;
}

void front_machine::note_quiet(const entry& attempt, time_point now) {
  if (attempt.next_index > 0 || now < std::min(attempt.began + bounds_.quiet_after, half_time(attempt)))
    return;
  for (auto* const cells : {&encode_cells_, &prefill_cells_, &decode_cells_})
    for (auto& cell : *cells)
      cell.quiet = cell.quiet || attempt.unheard.count(plan_.cell(cell.id).leader()) > 0;
}

/// The leaders that it waits for have used up half of its time, and other cells could do their part. The last attempt
/// has nothing to gain.
bool front_machine::is_better_elsewhere(const entry& attempt, time_point now) const {
  if (now < half_time(attempt) || attempt.of.attempts >= limits::request_attempts_max || drain_until_)
    return false;
  for (const auto* const cells : {&encode_cells_, &prefill_cells_, &decode_cells_})
    for (const auto& cell : *cells)
      if (attempt.unheard.count(plan_.cell(cell.id).leader()) > 0 && count_heard(*cells) == 0)
        return false;
  return true;
}

void front_machine::on_ack(rank_id from, const ack& word) {
  const keeps_invariants checked{*this};
  hear(from);
  if (const auto found = started_.find(word.request); found != started_.end())
    found->second.unheard.erase(from);
}

/// A rank of one of the attempt's cells, and one that still can fail it: from the first token on that is decode (C46).
/// Where roles share a rank, the error says of which it speaks.
bool front_machine::has_part(const entry& attempt, rank_id from, const error& problem) const {
  const auto in = [&](cell_id cell) {
    const auto& of = plan_.cell(cell);
    const bool of_another = problem.where != name(of.role) &&
                            (problem.where == name(serve_role::encode) || problem.where == name(serve_role::prefill) ||
                             problem.where == name(serve_role::decode));
    return of.place_of(from).has_value() && !of_another;
  };
  return in(attempt.decode) || (attempt.prefill && in(*attempt.prefill)) ||
         std::any_of(attempt.encode.begin(), attempt.encode.end(), in);
}

front_machine::effects front_machine::on_error(rank_id from, const error& problem, time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  hear(from);
  const auto found = started_.find(problem.request);
  if (found == started_.end())
    return out;
  if (!has_part(found->second, from, problem)) {
    ++errors_ignored_;
    return out;
  }
  const failure cause{fault_from(problem.code).value_or(fault::executor_failed), problem.message};
  if (passes(cause.code))
    retry_or_end(found, cause, now, limits::retry_pause, out);
  else
    end(found, finish_reason::failed, cause, out);
  admit(out, now);
  return out;
}

front_machine::effects front_machine::on_cancel(request_id id, time_point now) {
  const keeps_invariants checked{*this, id};
  effects out;
  const auto found =
      std::find_if(started_.begin(), started_.end(), [&](const auto& each) { return each.second.of.what.id == id; });
  if (found != started_.end()) {
    end(found, finish_reason::cancelled, failure{fault::cancelled, {}}, out);
    admit(out, now);
    return out;
  }
  const auto place =
      std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& each) { return each.what.id == id; });
  if (place != waiting_.end()) {
    waiting_.erase(place);
    out.push_back(end_request{id, finish_reason::cancelled, failure{fault::cancelled, {}}});
    admit(out, now);
    finish_drain(out);
  }
  return out;
}

front_machine::effects front_machine::on_lost(const lost& news, time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  const bool returns = news.next != generation{};
  const auto is_lost = [&](cell_id id) {
    return std::any_of(news.ranks.begin(), news.ranks.end(),
                       [&](rank_id rank) { return plan_.cell(id).place_of(rank).has_value(); });
  };
  for (auto* const cells : {&encode_cells_, &prefill_cells_, &decode_cells_})
    for (auto& cell : *cells)
      if (is_lost(cell.id)) {
        cell.is = returns ? presence::returning : presence::gone;
        cell.credits.clear();
        cell.quiet = false;
      }
  for (auto& [room, one] : staged_) // what is told to the next generation would be nonsense there
    one.cell_lost = one.cell_lost || is_lost(one.encode_cell);
  if (!returns)
    gone_for_ = news.cause;
  const failure cause{fault::cell_gone, news.cause};
  for (auto each = started_.begin(); each != started_.end();) {
    const auto current = each++;
    const auto& one = current->second;
    if (!(one.prefill && is_lost(*one.prefill)) && !is_lost(one.decode) &&
        std::none_of(one.encode.begin(), one.encode.end(), is_lost))
      continue;
    if (returns)
      retry_or_end(current, cause, now, duration{}, out);
    else
      end(current, finish_reason::failed, cause, out);
  }
  admit(out, now);
  return out;
}

front_machine::effects front_machine::on_recovered(const recovered& news, time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  for (auto* const cells : {&encode_cells_, &prefill_cells_, &decode_cells_})
    for (auto& cell : *cells)
      for (const auto rank : news.ranks)
        if (plan_.cell(cell.id).place_of(rank))
          cell.is = presence::serving;
  admit(out, now);
  return out;
}

/// What was accepted is served, also what waits for its turn, until the drain's deadline (K17).
front_machine::effects front_machine::on_drain(time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  drain_until_ = now + bounds_.drain_deadline;
  finish_drain(out);
  return out;
}

void front_machine::finish_drain(effects& out) {
  if (!drain_until_ || drained_said_ || !started_.empty() || !waiting_.empty())
    return;
  drained_said_ = true;
  out.push_back(drained{});
}

failure front_machine::late(const queued& which) const {
  const bool is_own = which.what.timeout_ms != 0 && which.deadline < which.what.asked + bounds_.request_deadline;
  return {fault::timeout,
          is_own ? "the request's own deadline (timeout_ms " + std::to_string(which.what.timeout_ms) + ") passed"
                 : std::string{"the request's deadline (timeouts.request_ms) passed"}};
}

front_machine::effects front_machine::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  staging_.tick(now);
  const failure cut_off{fault::shutting_down, "cut off by the end of the drain"};
  const auto not_acknowledged = [&](const entry& one) {
    const auto waited = std::chrono::floor<std::chrono::milliseconds>(std::min(now, one.unheard_until) - one.began);
    return failure{fault::timeout, plan_.rank(*one.unheard.begin()).label +
                                       " has not acknowledged the request within " + std::to_string(waited.count()) +
                                       " ms"};
  };
  for (const auto& [id, one] : started_)
    note_quiet(one, now);
  for (auto each = started_.begin(); each != started_.end();) {
    const auto current = each++;
    const auto& one = current->second;
    if (now >= one.of.deadline)
      end(current, finish_reason::failed, late(one.of), out);
    else if (!one.unheard.empty() && one.next_index == 0 && (now >= one.unheard_until || is_better_elsewhere(one, now)))
      retry_or_end(current, not_acknowledged(one), now, duration{}, out);
    else if (drain_until_ && now >= *drain_until_)
      end(current, finish_reason::failed, cut_off, out);
  }
  std::erase_if(waiting_, [&](const queued& each) {
    const bool is_cut_off = drain_until_ && now >= *drain_until_;
    if (now < each.deadline && !is_cut_off)
      return false;
    out.push_back(end_request{each.what.id, finish_reason::failed, is_cut_off ? cut_off : late(each)});
    return true;
  });
  admit(out, now);
  finish_drain(out);
  return out;
}

std::string front_machine::audit() const {
  std::map<cell_id, std::uint64_t> blocks;
  std::map<cell_id, std::uint32_t> rows;
  for (const auto& [id, one] : started_) {
    const auto needed = needs_of(one.of.what);
    blocks[one.decode] += needed.decode_blocks;
    if (one.prefill) {
      blocks[*one.prefill] += needed.prefill_blocks;
      rows[*one.prefill] += needed.pictures;
    }
  }
  const auto blocks_max = bounds_.kv_tokens_max / limits::kv_block_tokens;
  for (const auto* const cells : {&prefill_cells_, &decode_cells_})
    for (const auto& cell : *cells)
      if (cell.blocks != blocks[cell.id] || cell.rows != rows[cell.id] || cell.blocks > blocks_max ||
          cell.rows > bounds_.row_slots)
        return "cell " + std::to_string(cell.id.value) + " serves other than is counted, or more than it holds";
  for (const auto& cell : encode_cells_) {
    std::set<slot_index> held;
    for (const auto& slot : cell.credits)
      if (slot.slot.value >= bounds_.pixel_slots || !held.insert(slot.slot).second)
        return "pixel slot " + std::to_string(slot.slot.value) + " is held twice";
  }
  const auto lent = static_cast<std::uint32_t>(
      std::count_if(staged_.begin(), staged_.end(), [](const auto& each) { return each.second.slot.has_value(); }));
  if (staging_.available() + staging_.resting() + lent != staging_.size())
    return std::to_string(lent) + " staging slots are lent, " + std::to_string(staging_.available()) + " free, " +
           std::to_string(staging_.resting()) + " at rest; there are " + std::to_string(staging_.size());
  return {};
}

} // namespace troupe::protocols
