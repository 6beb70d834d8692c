#include "protocols/serve/front_machine.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "protocols/serve/prompt_digest.hpp"
#include "protocols/transfers/lease.hpp"

namespace troupe::protocols {

namespace {

template <class Cells>
auto find_cell(Cells& cells, cell_id id) {
  return std::find_if(cells.begin(), cells.end(), [&](const auto& each) { return each.id == id; });
}

/// Transient faults: another attempt may succeed.
bool passes(fault code) noexcept {
  return code == fault::peer_gone || code == fault::cell_gone || code == fault::transfer_failed ||
         code == fault::stale_grant || code == fault::timeout || code == fault::queue_full;
}

std::uint64_t blocks_for(std::uint64_t tokens) noexcept {
  return (tokens + limits::kv_block_tokens - 1) / limits::kv_block_tokens;
}

/// What is left of the request's own time, as its orders carry it.
std::uint32_t left_ms(time_point deadline, time_point now) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(left, 1, std::numeric_limits<std::uint32_t>::max()));
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
        std::uint64_t{each.first_token} + each.tokens > wanted.prompt.size())
      return failure{fault::invalid_request, "a picture's tokens lie outside the prompt"};
  return std::nullopt;
}

/// A refusal leaves nothing behind, so that a burst is over when its last request has ended (C39).
result<front_machine::effects> front_machine::on_request(request wanted, time_point now) {
  if (auto problem = judge(wanted))
    return tl::unexpected<failure>{*std::move(problem)};
  if (waiting_.size() >= bounds_.in_flight_max)
    return fail(fault::queue_full, std::to_string(waiting_.size()) + " requests wait; try again later");
  const auto deadline = wanted.asked + bounds_.request_deadline;
  waiting_.push_back({.what = std::move(wanted), .place = next_place_++, .deadline = deadline, .attempts = 0});
  effects out;
  admit(out, now);
  return out;
}

std::optional<request_id> front_machine::request_of(request_id attempt) const {
  const auto found = started_.find(attempt);
  return found == started_.end() ? std::nullopt : std::optional{found->second.of.what.id};
}

front_machine::needs front_machine::needs_of(const request& wanted) {
  return {.prefill_blocks = blocks_for(wanted.prompt.size()),
          .decode_blocks = blocks_for(wanted.prompt.size() + wanted.max_tokens),
          .pictures = static_cast<std::uint32_t>(wanted.pictures.size())};
}

/// Of the cells that have so much free.
front_machine::cell_load* front_machine::least_loaded(std::vector<cell_load>& cells, std::uint64_t blocks,
                                                      std::uint32_t rows) {
  const auto blocks_max = bounds_.kv_tokens_max / limits::kv_block_tokens;
  cell_load* best = nullptr;
  for (auto& each : cells)
    if (each.is == presence::serving && each.blocks + blocks <= blocks_max && each.rows + rows <= bounds_.row_slots &&
        (best == nullptr || each.blocks < best->blocks))
      best = &each;
  return best;
}

bool front_machine::may_return(const std::vector<cell_load>& cells) {
  return std::any_of(cells.begin(), cells.end(), [](const auto& one) { return one.is != presence::gone; });
}

/// In order; what one lacks and another does not need lets the other pass (see the class).
void front_machine::admit(effects& out, time_point now) {
  bool pictures_wait = false;
  for (auto next = waiting_.begin(); next != waiting_.end() && started_.size() < bounds_.in_flight_max;) {
    const bool behind = pictures_wait && !next->what.pictures.empty();
    switch (behind ? attempt_start::no_pictures : start(*next, out, now)) {
    case attempt_start::started:
      next = waiting_.erase(next);
      break;
    case attempt_start::no_pictures:
      pictures_wait = true;
      ++next;
      break;
    case attempt_start::pauses:
      ++next;
      break;
    case attempt_start::no_cell:
      return;
    }
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

/// All that the request needs, or what it lacks; nothing is taken (C40).
front_machine::attempt_start front_machine::find_places(const request& wanted, places& found) {
  const auto needed = needs_of(wanted);
  if (least_loaded(prefill_cells_, needed.prefill_blocks, 0) == nullptr)
    return attempt_start::no_cell;
  found.decode = least_loaded(decode_cells_, needed.decode_blocks, 0);
  if (found.decode == nullptr)
    return attempt_start::no_cell;
  found.prefill = least_loaded(prefill_cells_, needed.prefill_blocks, needed.pictures);
  if (found.prefill == nullptr || staging_.available() < needed.pictures || !choose_encode_cells(wanted, found.encode))
    return attempt_start::no_pictures;
  return attempt_start::started;
}

std::optional<failure> front_machine::judge_cells(const request& wanted) const {
  const bool served =
      may_return(prefill_cells_) && may_return(decode_cells_) && (wanted.pictures.empty() || may_return(encode_cells_));
  return served ? std::nullopt : std::optional{failure{fault::cell_gone, gone_for_}};
}

/// Takes all that the request needs or nothing, so requests that flood cells which are still to grant their slots
/// cannot hold what another waits for (C40).
front_machine::attempt_start front_machine::start(queued& wanted, effects& out, time_point now) {
  if (now < wanted.not_before)
    return attempt_start::pauses;
  if (auto gone = judge_cells(wanted.what)) {
    out.push_back(end_request{wanted.what.id, finish_reason::failed, std::move(gone)});
    return attempt_start::started;
  }
  places found;
  const auto outcome = find_places(wanted.what, found);
  if (outcome == attempt_start::started)
    begin(wanted, found, out, now);
  return outcome;
}

void front_machine::begin(queued& wanted, const places& found, effects& out, time_point now) {
  const auto attempt = std::exchange(next_attempt_, next_attempt_.next());
  const auto kv_room = room_id{next_room_++};
  entry started{.of = std::move(wanted),
                .rooms = {kv_room},
                .decode = found.decode->id,
                .prefill = found.prefill->id,
                .encode = {},
                .unheard = {},
                .unheard_until = now + bounds_.ack_deadline,
                .next_index = 0};
  ++started.of.attempts;
  const auto& what = started.of.what;
  const auto needed = needs_of(what);
  const auto deadline_ms = left_ms(started.of.deadline, now);
  found.prefill->blocks += needed.prefill_blocks;
  found.prefill->rows += needed.pictures;
  found.decode->blocks += needed.decode_blocks;

  submit work{.request = attempt,
              .prompt = what.prompt,
              .pictures = {},
              .sampling = what.sampling,
              .kv_room = kv_room,
              .decode_cell = found.decode->id,
              .deadline_ms = deadline_ms};
  effects to_encode;
  send_pictures(started, attempt, found, work, to_encode);
  out.push_back(send_message{plan_.cell(found.decode->id).leader(),
                             reserve_kv{.request = attempt,
                                        .room = kv_room,
                                        .prompt_tokens = static_cast<std::uint32_t>(what.prompt.size()),
                                        .max_tokens = what.max_tokens,
                                        .sampling = what.sampling,
                                        .end_tokens = bounds_.end_tokens,
                                        .prefill_cell = found.prefill->id,
                                        .deadline_ms = deadline_ms,
                                        .prompt_digest = prompt_digest(what.prompt)}});
  out.push_back(send_message{plan_.cell(found.prefill->id).leader(), std::move(work)});
  out.insert(out.end(), std::make_move_iterator(to_encode.begin()), std::make_move_iterator(to_encode.end()));
  for (const auto cell : started.encode)
    started.unheard.insert(plan_.cell(cell).leader());
  started.unheard.insert(plan_.cell(found.prefill->id).leader());
  started.unheard.insert(plan_.cell(found.decode->id).leader());
  started_.emplace(attempt, std::move(started));
}

/// Each picture's pixel slot and staging slot are there: `find_places` has looked.
void front_machine::send_pictures(entry& started, request_id attempt, const places& found, submit& work, effects& out) {
  const auto& what = started.of.what;
  for (std::size_t i = 0; i < what.pictures.size(); ++i) {
    const auto& each = what.pictures[i];
    auto& cell = *found.encode[i];
    const auto room = room_id{next_room_++};
    const auto slot = cell.credits.front();
    cell.credits.pop_front();
    const auto staging = *staging_.acquire();
    const auto& ranks = plan_.cell(cell.id).ranks;
    staged_[room] = {.attempt = attempt,
                     .encode_cell = cell.id,
                     .slot = staging,
                     .writes_left = static_cast<std::uint32_t>(ranks.size()),
                     .settled = true,
                     .over = false,
                     .tell_cell = false,
                     .cell_lost = false};
    started.encode.push_back(cell.id);
    started.rooms.push_back(room);
    work.pictures.push_back({.room = room,
                             .first_token = each.first_token,
                             .tokens = each.tokens,
                             .grid = each.grid,
                             .content_hash = each.content_hash,
                             .encode_cell = cell.id});
    out.push_back(write_pixels{what.id, static_cast<std::uint32_t>(i), room, cell.id, slot, cell.born, staging.slot});
    out.push_back(send_message{plan_.cell(cell.id).leader(), encode{.request = attempt,
                                                                    .room = room,
                                                                    .pixels = slot,
                                                                    .height = each.height,
                                                                    .width = each.width,
                                                                    .tokens = each.tokens,
                                                                    .content_hash = each.content_hash,
                                                                    .prefill_cell = found.prefill->id,
                                                                    .deadline_ms = work.deadline_ms}});
  }
}

/// A slot that is held already was granted by an earlier generation of the cell: the later word counts.
front_machine::effects front_machine::on_pixel_credits(rank_id from, const grant_pixels& credits, time_point now) {
  effects out;
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
    if (one.next_index == 0) {
      leave_prefill(one);
      leave_pictures(found->first, false, out); // the cell has given their pixel slots back itself
    }
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
  if (attempt.prefill) {
    const auto needed = needs_of(attempt.of.what);
    auto& cell = *find_cell(prefill_cells_, *attempt.prefill);
    cell.blocks -= needed.prefill_blocks;
    cell.rows -= needed.pictures;
  }
  attempt.prefill.reset();
  attempt.encode.clear();
}

/// `tell`: its encode cells are to hear when nothing more is written for it.
void front_machine::leave_pictures(request_id attempt, bool tell, effects& out) {
  for (auto each = staged_.begin(); each != staged_.end();) {
    const auto current = each++;
    if (current->second.attempt != attempt)
      continue;
    current->second.over = true;
    current->second.tell_cell = tell;
    leave_if_over(current, out);
  }
}

void front_machine::leave_if_over(std::map<room_id, staged>::iterator which, effects& out) {
  const auto& one = which->second;
  if (!one.over || one.writes_left > 0)
    return;
  if (one.tell_cell && !one.cell_lost)
    out.push_back(
        send_message{plan_.cell(one.encode_cell).leader(), pixels_returned{one.attempt, which->first, one.settled}});
  staged_.erase(which);
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
  find_cell(decode_cells_, attempt.decode)->blocks -= needs_of(attempt.of.what).decode_blocks;
  if (!cause)
    return;
  for (const auto cell : cells)
    out.push_back(send_message{plan_.cell(cell).leader(), cancel{which->first, to_string(*cause)}});
  leave_pictures(which->first, true, out);
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
      std::find_if(waiting_.begin(), waiting_.end(), [&](const queued& other) { return other.place > back.place; });
  waiting_.insert(place, std::move(back));
}

void front_machine::on_ack(rank_id from, const ack& word) {
  if (const auto found = started_.find(word.request); found != started_.end())
    found->second.unheard.erase(from);
}

/// A rank of one of the attempt's cells, and one that still can fail it: from the first token on that is decode (C46).
/// Where roles share a rank, the error says of which it speaks.
bool front_machine::has_part(const entry& attempt, rank_id from, const error& problem) const {
  const auto in = [&](cell_id cell) {
    const auto& of = plan_.cell(cell);
    const bool of_another = problem.where != name(of.role) &&
                            (problem.where == name(role_kind::encode) || problem.where == name(role_kind::prefill) ||
                             problem.where == name(role_kind::decode));
    return of.place_of(from).has_value() && !of_another;
  };
  return in(attempt.decode) || (attempt.prefill && in(*attempt.prefill)) ||
         std::any_of(attempt.encode.begin(), attempt.encode.end(), in);
}

front_machine::effects front_machine::on_error(rank_id from, const error& problem, time_point now) {
  effects out;
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

front_machine::effects front_machine::on_pixels_written(room_id room, write_end how, const failure& cause,
                                                        time_point now) {
  effects out;
  const auto which = staged_.find(room);
  if (which == staged_.end() || which->second.writes_left == 0)
    return out;
  auto& one = which->second;
  const auto attempt = one.attempt;
  const bool lingers = how == write_end::failed && may_still_arrive(cause.code);
  one.settled = one.settled && !lingers;
  if (--one.writes_left == 0) {
    if (one.settled)
      (void)staging_.release(*one.slot);
    else
      (void)staging_.fail(*one.slot);
    one.slot.reset();
  }
  leave_if_over(which, out);
  if (how != write_end::delivered)
    if (const auto found = started_.find(attempt); found != started_.end() && found->second.next_index == 0)
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

/// What was accepted is served, also what waits for its turn, until the drain's deadline (K17).
front_machine::effects front_machine::on_drain(time_point now) {
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

front_machine::effects front_machine::on_tick(time_point now) {
  effects out;
  staging_.tick(now);
  const failure late{fault::timeout, "the request's deadline (timeouts.request_ms) passed"};
  const failure cut_off{fault::shutting_down, "cut off by the end of the drain"};
  for (auto each = started_.begin(); each != started_.end();) {
    const auto current = each++;
    const auto& one = current->second;
    if (now >= one.of.deadline)
      end(current, finish_reason::failed, late, out);
    else if (!one.unheard.empty() && one.next_index == 0 && now >= one.unheard_until)
      retry_or_end(current,
                   {fault::timeout,
                    plan_.rank(*one.unheard.begin()).label + " has not acknowledged the request within " +
                        std::to_string(std::chrono::ceil<std::chrono::milliseconds>(bounds_.ack_deadline).count()) +
                        " ms (" + std::to_string(limits::starved_patience) + " x timeouts.kill_ms)"},
                   now, duration{}, out);
    else if (drain_until_ && now >= *drain_until_)
      end(current, finish_reason::failed, cut_off, out);
  }
  std::erase_if(waiting_, [&](const queued& each) {
    const bool is_cut_off = drain_until_ && now >= *drain_until_;
    if (now < each.deadline && !is_cut_off)
      return false;
    out.push_back(end_request{each.what.id, finish_reason::failed, is_cut_off ? cut_off : late});
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
