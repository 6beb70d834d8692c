#include "protocols/front_machine.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "protocols/prompt_digest.hpp"

namespace troupe::protocols {

namespace {

template <class Cells>
auto find_cell(Cells& cells, cell_id id) {
  return std::find_if(cells.begin(), cells.end(), [&](const auto& each) { return each.id == id; });
}

/// Faults of the way and not of the request: another attempt may go well.
bool passes(fault code) noexcept {
  return code == fault::peer_gone || code == fault::cell_gone || code == fault::transfer_failed ||
         code == fault::stale_grant || code == fault::timeout;
}

} // namespace

front_machine::front_machine(const cluster_plan& plan, options bounds) : plan_(plan), bounds_(std::move(bounds)) {
  const auto load_of = [&](role_kind role) {
    std::vector<cell_load> cells;
    for (const auto id : plan.cells_of(role))
      cells.push_back({.id = id, .tokens = 0, .credits = {}, .is = presence::serving});
    return cells;
  };
  encode_cells_ = load_of(role_kind::encode);
  prefill_cells_ = load_of(role_kind::prefill);
  decode_cells_ = load_of(role_kind::decode);
}

std::optional<failure> front_machine::judge(const request& wanted) const {
  if (drain_until_)
    return failure{fault::shutting_down, {}};
  if (wanted.prompt.empty())
    return failure{fault::invalid_request, "the prompt has no token"};
  if (wanted.max_tokens == 0)
    return failure{fault::invalid_request, "max_tokens is 0; at least 1"};
  if (!std::isfinite(wanted.sampling.temperature) || wanted.sampling.temperature < 0.0F ||
      !(wanted.sampling.top_p > 0.0F && wanted.sampling.top_p <= 1.0F))
    return failure{fault::invalid_request, "temperature is at least 0, top_p above 0 and at most 1"};

  const auto needed = wanted.prompt.size() + wanted.max_tokens;
  const auto allowed = std::min(bounds_.context_max, bounds_.kv_tokens_max);
  if (needed > allowed)
    return failure{fault::context_exceeded, std::to_string(wanted.prompt.size()) + " prompt tokens and " +
                                                std::to_string(wanted.max_tokens) + " for the answer; at most " +
                                                std::to_string(allowed) + " together"};
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
        each.first_token + each.tokens > wanted.prompt.size())
      return failure{fault::invalid_request, "a picture's tokens lie outside the prompt"};
  return std::nullopt;
}

/// A refusal leaves nothing behind, so that a burst is over when its last request has ended (C39).
result<front_machine::effects> front_machine::on_request(request wanted, time_point now) {
  if (auto problem = judge(wanted))
    return tl::unexpected<failure>{*std::move(problem)};
  if (waiting_.size() >= bounds_.in_flight_max)
    return fail(fault::queue_full, std::to_string(waiting_.size()) + " requests wait; try again later");
  waiting_.push_back({.what = std::move(wanted), .deadline = now + bounds_.request_deadline, .attempts = 0});
  effects out;
  admit(out, now);
  return out;
}

std::optional<request_id> front_machine::request_of(request_id attempt) const {
  const auto found = started_.find(attempt);
  return found == started_.end() ? std::nullopt : std::optional{found->second.of.what.id};
}

front_machine::cell_load* front_machine::least_loaded(std::vector<cell_load>& cells) {
  cell_load* best = nullptr;
  for (auto& each : cells)
    if (each.is == presence::serving && (best == nullptr || each.tokens < best->tokens))
      best = &each;
  return best;
}

bool front_machine::may_return(const std::vector<cell_load>& cells) {
  return std::any_of(cells.begin(), cells.end(), [](const auto& one) { return one.is != presence::gone; });
}

void front_machine::admit(effects& out, time_point now) {
  while (!waiting_.empty() && started_.size() < bounds_.in_flight_max) {
    if (!start(waiting_.front(), out, now))
      return;
    waiting_.pop_front();
  }
}

/// A picture goes to the cell that its content names, so that equal pictures meet in one cache; when that cell has no
/// free slot, to any that has one. False: one of them has to wait.
bool front_machine::choose_encode_cells(const request& wanted, std::vector<cell_load*>& chosen) {
  std::map<cell_id, std::size_t> taken;
  for (const auto& each : wanted.pictures) {
    cell_load* cell = nullptr;
    for (std::size_t i = 0; i < encode_cells_.size() && cell == nullptr; ++i) {
      auto& candidate = encode_cells_[(each.content_hash + i) % encode_cells_.size()];
      if (candidate.is == presence::serving && candidate.credits.size() > taken[candidate.id])
        cell = &candidate;
    }
    if (cell == nullptr)
      return false;
    ++taken[cell->id];
    chosen.push_back(cell);
  }
  return true;
}

/// Takes all that the request needs or nothing, so requests that flood cells which are still to grant their slots
/// cannot hold what another waits for (C40). False when the request has to wait: for pixel slots, for a cell that is
/// being restarted, or after a fault of the way.
bool front_machine::start(queued& wanted, effects& out, time_point now) {
  if (now < wanted.not_before)
    return false;
  const auto missing = !may_return(prefill_cells_)                                   ? "prefill"
                       : !may_return(decode_cells_)                                  ? "decode"
                       : !wanted.what.pictures.empty() && !may_return(encode_cells_) ? "encode"
                                                                                     : nullptr;
  if (missing != nullptr) {
    out.push_back(end_request{wanted.what.id, finish_reason::failed,
                              failure{fault::cell_gone, std::string{"no "} + missing + " cell is left"}});
    return true;
  }
  auto* const prefill = least_loaded(prefill_cells_);
  auto* const decode = least_loaded(decode_cells_);
  std::vector<cell_load*> chosen;
  if (prefill == nullptr || decode == nullptr || !choose_encode_cells(wanted.what, chosen))
    return false;

  const auto attempt = std::exchange(next_attempt_, next_attempt_.next());
  const auto kv_room = room_id{next_room_++};
  entry started{.of = std::move(wanted),
                .rooms = {kv_room},
                .decode = decode->id,
                .prefill = prefill->id,
                .encode = {},
                .unheard = {},
                .unheard_until = now + bounds_.ack_deadline,
                .next_index = 0};
  ++started.of.attempts;
  const auto& what = started.of.what;

  submit work{.request = attempt,
              .prompt = what.prompt,
              .pictures = {},
              .sampling = what.sampling,
              .kv_room = kv_room,
              .decode_cell = decode->id,
              .deadline_ms = bounds_.room_deadline_ms};
  effects to_encode;
  for (std::size_t i = 0; i < what.pictures.size(); ++i) {
    const auto& each = what.pictures[i];
    const auto room = room_id{next_room_++};
    const auto slot = chosen[i]->credits.front();
    chosen[i]->credits.pop_front();
    started.encode.push_back(chosen[i]->id);
    started.rooms.push_back(room);
    work.pictures.push_back({.room = room,
                             .first_token = each.first_token,
                             .tokens = each.tokens,
                             .grid = each.grid,
                             .content_hash = each.content_hash,
                             .encode_cell = chosen[i]->id});
    to_encode.push_back(
        write_pixels{what.id, static_cast<std::uint32_t>(i), room, chosen[i]->id, slot, chosen[i]->born});
    to_encode.push_back(
        send_message{plan_.cell(chosen[i]->id).leader(), encode{.request = attempt,
                                                                .room = room,
                                                                .pixels = slot,
                                                                .height = each.height,
                                                                .width = each.width,
                                                                .tokens = each.tokens,
                                                                .content_hash = each.content_hash,
                                                                .prefill_cell = prefill->id,
                                                                .deadline_ms = bounds_.room_deadline_ms}});
  }
  const auto load = what.prompt.size() + what.max_tokens;
  prefill->tokens += load;
  decode->tokens += load;

  out.push_back(send_message{plan_.cell(decode->id).leader(),
                             reserve_kv{.request = attempt,
                                        .room = kv_room,
                                        .prompt_tokens = static_cast<std::uint32_t>(what.prompt.size()),
                                        .max_tokens = what.max_tokens,
                                        .sampling = what.sampling,
                                        .end_tokens = bounds_.end_tokens,
                                        .prefill_cell = prefill->id,
                                        .deadline_ms = bounds_.room_deadline_ms,
                                        .prompt_digest = prompt_digest(what.prompt)}});
  out.push_back(send_message{plan_.cell(prefill->id).leader(), std::move(work)});
  out.insert(out.end(), std::make_move_iterator(to_encode.begin()), std::make_move_iterator(to_encode.end()));
  for (const auto cell : started.encode)
    started.unheard.insert(plan_.cell(cell).leader());
  started.unheard.insert(plan_.cell(prefill->id).leader());
  started.unheard.insert(plan_.cell(decode->id).leader());
  started_.emplace(attempt, std::move(started));
  return true;
}

front_machine::effects front_machine::on_pixel_credits(rank_id from, const grant_pixels& credits, time_point now) {
  effects out;
  for (auto& cell : encode_cells_)
    if (plan_.cell(cell.id).leader() == from) {
      cell.born = credits.born;
      cell.credits.insert(cell.credits.end(), credits.slots.begin(), credits.slots.end());
    }
  admit(out, now);
  return out;
}

front_machine::effects front_machine::on_tokens(rank_id from, const tokens& batch, time_point now) {
  effects out;
  for (const auto& event : batch.events) {
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
    if (one.next_index == 0)
      leave_prefill(one);
    ++one.next_index;
    out.push_back(emit_token{one.of.what.id, event.index, event.id});
    if (event.finish != finish_reason::none)
      end(found, event.finish, std::nullopt, out);
  }
  admit(out, now);
  return out;
}

/// From here on only decode can fail the attempt (C46).
void front_machine::leave_prefill(entry& attempt) {
  if (attempt.prefill)
    find_cell(prefill_cells_, *attempt.prefill)->tokens -= attempt.of.what.prompt.size() + attempt.of.what.max_tokens;
  attempt.prefill.reset();
  attempt.encode.clear();
}

/// The cells have the attempt no more; with a cause they may still hold something of it, and let go (C15, F13).
void front_machine::leave_cells(started_iterator which, const std::optional<failure>& cause, effects& out) {
  auto& attempt = which->second;
  std::vector<cell_id> cells = attempt.encode;
  std::sort(cells.begin(), cells.end());
  cells.erase(std::unique(cells.begin(), cells.end()), cells.end());
  if (attempt.prefill)
    cells.push_back(*attempt.prefill);
  cells.push_back(attempt.decode);
  leave_prefill(attempt);
  find_cell(decode_cells_, attempt.decode)->tokens -= attempt.of.what.prompt.size() + attempt.of.what.max_tokens;
  if (!cause)
    return;
  for (const auto cell : cells)
    out.push_back(send_message{plan_.cell(cell).leader(), cancel{which->first, to_string(*cause)}});
}

void front_machine::end(started_iterator which, finish_reason reason, std::optional<failure> cause, effects& out) {
  leave_cells(which, cause, out);
  out.push_back(end_request{which->second.of.what.id, reason, std::move(cause)});
  started_.erase(which);
  finish_drain(out);
}

/// What has said nothing yet may be served anew, from the place in the queue that it had (D6, D7).
void front_machine::retry_or_end(started_iterator which, const failure& cause, time_point now, duration pause,
                                 effects& out) {
  auto& one = which->second;
  const bool again =
      one.next_index == 0 && one.of.attempts < limits::request_attempts_max && now < one.of.deadline && !drain_until_;
  if (!again)
    return end(which, finish_reason::failed, cause, out);
  leave_cells(which, cause, out);
  auto back = std::move(one.of);
  back.not_before = now + pause;
  started_.erase(which);
  const auto place =
      std::find_if(waiting_.begin(), waiting_.end(), [&](const queued& other) { return other.what.id > back.what.id; });
  waiting_.insert(place, std::move(back));
}

void front_machine::on_ack(rank_id from, const ack& word) {
  if (const auto found = started_.find(word.request); found != started_.end())
    found->second.unheard.erase(from);
}

front_machine::effects front_machine::on_error(rank_id, const error& problem, time_point now) {
  effects out;
  const auto found = started_.find(problem.request);
  if (found == started_.end())
    return out;
  const failure cause{fault_from(problem.code).value_or(fault::executor_failed), problem.message};
  if (passes(cause.code))
    retry_or_end(found, cause, now, limits::retry_pause, out);
  else
    end(found, finish_reason::failed, cause, out);
  admit(out, now);
  return out;
}

front_machine::effects front_machine::on_pixels_failed(room_id room, const failure& cause, time_point now) {
  effects out;
  const auto found = std::find_if(started_.begin(), started_.end(), [&](const auto& each) {
    return std::find(each.second.rooms.begin(), each.second.rooms.end(), room) != each.second.rooms.end();
  });
  if (found == started_.end())
    return out;
  retry_or_end(found, cause, now, limits::retry_pause, out);
  admit(out, now);
  return out;
}

front_machine::effects front_machine::on_cancel(request_id id, time_point now) {
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
      }
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

front_machine::effects front_machine::on_regained(const regained& news, time_point now) {
  effects out;
  for (auto* const cells : {&encode_cells_, &prefill_cells_, &decode_cells_})
    for (auto& cell : *cells)
      for (const auto rank : news.ranks)
        if (plan_.cell(cell.id).place_of(rank))
          cell.is = presence::serving;
  admit(out, now);
  return out;
}

front_machine::effects front_machine::on_drain(time_point now) {
  effects out;
  drain_until_ = now + bounds_.drain_deadline;
  for (const auto& each : waiting_)
    out.push_back(end_request{each.what.id, finish_reason::failed, failure{fault::shutting_down, {}}});
  waiting_.clear();
  finish_drain(out);
  return out;
}

void front_machine::finish_drain(effects& out) {
  if (!drain_until_ || drained_said_ || !started_.empty() || !waiting_.empty())
    return;
  drained_said_ = true;
  out.push_back(drained{});
}

front_machine::effects front_machine::on_tick(time_point now) {
  effects out;
  const failure late{fault::timeout, "the request's deadline (timeouts.request_ms) passed"};
  for (auto each = started_.begin(); each != started_.end();) {
    const auto current = each++;
    const auto& one = current->second;
    if (now >= one.of.deadline)
      end(current, finish_reason::failed, late, out);
    else if (!one.unheard.empty() && one.next_index == 0 && now >= one.unheard_until)
      retry_or_end(current,
                   {fault::timeout, plan_.rank(*one.unheard.begin()).label +
                                        " has not acknowledged the request within timeouts.kill_ms"},
                   now, duration{}, out);
    else if (drain_until_ && now >= *drain_until_)
      end(current, finish_reason::failed, failure{fault::shutting_down, "cut off by the end of the drain"}, out);
  }
  std::erase_if(waiting_, [&](const queued& each) {
    if (now < each.deadline)
      return false;
    out.push_back(end_request{each.what.id, finish_reason::failed, late});
    return true;
  });
  admit(out, now);
  finish_drain(out);
  return out;
}

} // namespace troupe::protocols
