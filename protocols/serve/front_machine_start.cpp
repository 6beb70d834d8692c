#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/prompt_digest.hpp"

/// How a request starts: what it needs, which cells have it, and the orders of an attempt.
namespace troupe::protocols {

namespace {

std::uint64_t blocks_for(std::uint64_t tokens) noexcept {
  return (tokens + limits::kv_block_tokens - 1) / limits::kv_block_tokens;
}

/// What is left of the request's own time, as its orders carry it.
std::uint32_t left_ms(time_point deadline, time_point now) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(left, 1, std::numeric_limits<std::uint32_t>::max()));
}

/// The tokens that end an answer.
std::vector<token_id> ends_of(const sampling_rules& rules, const std::vector<token_id>& of_model) {
  auto all = rules.ignore_eos ? std::vector<token_id>{} : of_model;
  all.insert(all.end(), rules.stop_ids.begin(), rules.stop_ids.end());
  return distinct(all);
}

/// What a cell is told: which ends it is to leave out, if it is to leave out any; of the prompt nothing, which comes
/// with it.
sampling_options sampling_of_cells(sampling_options wanted, const std::vector<token_id>& ends) {
  wanted.rules.stop_ids = wanted.rules.min_tokens > 0 ? ends : std::vector<token_id>{};
  wanted.rules.prompt_ids.clear();
  return wanted;
}

} // namespace

front_machine::needs front_machine::needs_of(const request& wanted) {
  return {.prefill_blocks = blocks_for(wanted.prompt.size()),
          .decode_blocks = blocks_for(wanted.prompt.size() + wanted.max_tokens),
          .pictures = static_cast<std::uint32_t>(wanted.pictures.size())};
}

std::size_t front_machine::count_heard(const std::vector<cell_load>& cells) {
  return static_cast<std::size_t>(std::count_if(
      cells.begin(), cells.end(), [](const auto& one) { return one.is == presence::serving && !one.quiet; }));
}

/// Of the cells that have so much free. A quiet one is passed over where another serves, even if that is full now.
front_machine::cell_load* front_machine::least_loaded(std::vector<cell_load>& cells, std::uint64_t blocks,
                                                      std::uint32_t rows) {
  const auto blocks_max = bounds_.kv_tokens_max / limits::kv_block_tokens;
  const bool pass_over_quiet = count_heard(cells) > 0;
  cell_load* best = nullptr;
  for (auto& each : cells)
    if (each.is == presence::serving && !(each.quiet && pass_over_quiet) && each.blocks + blocks <= blocks_max &&
        each.rows + rows <= bounds_.row_slots && (best == nullptr || each.blocks < best->blocks))
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
/// free slot, to any that has one. Quiet cells are passed over where the others could hold the whole request. False:
/// one picture has to wait.
bool front_machine::choose_encode_cells(const request& wanted, std::vector<cell_load*>& chosen) {
  const bool pass_over_quiet = count_heard(encode_cells_) * bounds_.pixel_slots >= wanted.pictures.size();
  std::map<cell_id, std::size_t> taken;
  for (const auto& each : wanted.pictures) {
    cell_load* cell = nullptr;
    for (std::size_t i = 0; i < encode_cells_.size() && cell == nullptr; ++i) {
      auto& candidate = encode_cells_[(each.content_hash + i) % encode_cells_.size()];
      if (candidate.is == presence::serving && !(candidate.quiet && pass_over_quiet) &&
          candidate.credits.size() > taken[candidate.id])
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

std::optional<failure> front_machine::validate_cells(const request& wanted) const {
  const bool served =
      may_return(prefill_cells_) && may_return(decode_cells_) && (wanted.pictures.empty() || may_return(encode_cells_));
  return served ? std::nullopt : std::optional{failure{fault::cell_gone, gone_for_}};
}

/// Takes all that the request needs or nothing, so requests that flood cells which are still to grant their slots
/// cannot hold what another waits for (C40).
front_machine::attempt_start front_machine::start(queued& wanted, effects& out, time_point now) {
  if (now < wanted.not_before)
    return attempt_start::pauses;
  if (auto gone = validate_cells(wanted.what)) {
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
                .began = now,
                .next_index = 0};
  ++started.of.attempts;
  const auto& what = started.of.what;
  const auto needed = needs_of(what);
  const auto deadline_ms = left_ms(started.of.deadline, now);
  found.prefill->blocks += needed.prefill_blocks;
  found.prefill->rows += needed.pictures;
  found.decode->blocks += needed.decode_blocks;

  const auto ends = ends_of(what.sampling.rules, bounds_.end_tokens);
  submit work{.request = attempt,
              .prompt = what.prompt,
              .pictures = {},
              .sampling = sampling_of_cells(what.sampling, ends),
              .kv_room = kv_room,
              .decode_cell = found.decode->id,
              .deadline_ms = deadline_ms,
              .trace = what.trace,
              .priority = what.priority};
  effects to_encode;
  send_pictures(started, attempt, found, work, to_encode);
  auto sampling = work.sampling;
  if (sampling.rules.repeats_cost())
    sampling.rules.prompt_ids = distinct(what.prompt);
  out.push_back(send_message{plan_.cell(found.decode->id).leader(),
                             reserve_kv{.request = attempt,
                                        .room = kv_room,
                                        .prompt_tokens = static_cast<std::uint32_t>(what.prompt.size()),
                                        .max_tokens = what.max_tokens,
                                        .sampling = std::move(sampling),
                                        .end_tokens = ends,
                                        .prefill_cell = found.prefill->id,
                                        .deadline_ms = deadline_ms,
                                        .prompt_digest = prompt_digest(what.prompt),
                                        .trace = what.trace,
                                        .priority = what.priority}});
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
                                                                    .deadline_ms = work.deadline_ms,
                                                                    .trace = what.trace}});
  }
}

} // namespace troupe::protocols
