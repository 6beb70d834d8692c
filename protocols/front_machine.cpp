#include "protocols/front_machine.hpp"

#include <algorithm>

namespace troupe::protocols {

namespace {

template <class Cells>
auto find_cell(Cells& cells, cell_id id) {
  return std::find_if(cells.begin(), cells.end(), [&](const auto& each) { return each.id == id; });
}

} // namespace

front_machine::front_machine(const cluster_plan& plan, options bounds) : plan_(plan), bounds_(std::move(bounds)) {
  const auto load_of = [&](role_kind role) {
    std::vector<cell_load> cells;
    for (const auto id : plan.cells_of(role))
      cells.push_back({.id = id, .tokens = 0, .credits = {}, .gone = false});
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
  if (!(wanted.sampling.temperature >= 0.0F) || !(wanted.sampling.top_p > 0.0F && wanted.sampling.top_p <= 1.0F))
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

result<front_machine::effects> front_machine::on_request(request wanted, time_point now) {
  if (auto problem = judge(wanted))
    return tl::unexpected<failure>{*std::move(problem)};
  if (waiting_.size() >= bounds_.in_flight_max)
    return fail(fault::queue_full, std::to_string(waiting_.size()) + " requests wait; try again later");
  waiting_.emplace_back(std::move(wanted), now + bounds_.request_deadline);
  effects out;
  admit(out);
  return out;
}

front_machine::cell_load* front_machine::least_loaded(std::vector<cell_load>& cells) {
  cell_load* best = nullptr;
  for (auto& each : cells)
    if (!each.gone && (best == nullptr || each.tokens < best->tokens))
      best = &each;
  return best;
}

void front_machine::admit(effects& out) {
  while (!waiting_.empty() && started_.size() < bounds_.in_flight_max) {
    auto& [wanted, deadline] = waiting_.front();
    if (!start(wanted, deadline, out))
      return;
    waiting_.pop_front();
  }
}

/// False when the request has to wait for pixel slots.
bool front_machine::start(request& wanted, time_point deadline, effects& out) {
  const auto refuse = [&](const char* role) {
    out.push_back(end_request{wanted.id, finish_reason::failed,
                              failure{fault::cell_gone, std::string{"no "} + role + " cell is left"}});
    return true;
  };
  auto* const prefill = least_loaded(prefill_cells_);
  auto* const decode = least_loaded(decode_cells_);
  if (prefill == nullptr)
    return refuse("prefill");
  if (decode == nullptr)
    return refuse("decode");

  // A picture goes to the cell that its content names, so that equal pictures meet in one cache; when that cell has no
  // free slot, to any that has one.
  std::vector<cell_load*> chosen;
  std::map<cell_id, std::size_t> taken;
  for (const auto& each : wanted.pictures) {
    cell_load* cell = nullptr;
    for (std::size_t i = 0; i < encode_cells_.size() && cell == nullptr; ++i) {
      auto& candidate = encode_cells_[(each.content_hash + i) % encode_cells_.size()];
      if (!candidate.gone && candidate.credits.size() > taken[candidate.id])
        cell = &candidate;
    }
    if (cell == nullptr) {
      if (std::all_of(encode_cells_.begin(), encode_cells_.end(), [](const auto& one) { return one.gone; }))
        return refuse("encode");
      return false;
    }
    ++taken[cell->id];
    chosen.push_back(cell);
  }

  entry started{.what = std::move(wanted),
                .deadline = deadline,
                .prefill = prefill->id,
                .decode = decode->id,
                .encode = {},
                .next_index = 0};
  const auto& what = started.what;
  const auto kv_room = room_id{next_room_++};

  submit work{.request = what.id,
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
    work.pictures.push_back({.room = room,
                             .first_token = each.first_token,
                             .tokens = each.tokens,
                             .grid = each.grid,
                             .content_hash = each.content_hash,
                             .encode_cell = chosen[i]->id});
    to_encode.push_back(write_pixels{what.id, static_cast<std::uint32_t>(i), room, chosen[i]->id, slot});
    to_encode.push_back(
        send_message{plan_.cell(chosen[i]->id).leader(), encode{.request = what.id,
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
                             reserve_kv{.request = what.id,
                                        .room = kv_room,
                                        .prompt_tokens = static_cast<std::uint32_t>(what.prompt.size()),
                                        .max_tokens = what.max_tokens,
                                        .sampling = what.sampling,
                                        .end_tokens = bounds_.end_tokens,
                                        .prefill_cell = prefill->id,
                                        .deadline_ms = bounds_.room_deadline_ms}});
  out.push_back(send_message{plan_.cell(prefill->id).leader(), std::move(work)});
  out.insert(out.end(), std::make_move_iterator(to_encode.begin()), std::make_move_iterator(to_encode.end()));
  started_.emplace(what.id, std::move(started));
  return true;
}

front_machine::effects front_machine::on_pixel_credits(rank_id from, const grant_pixels& credits, time_point) {
  effects out;
  for (auto& cell : encode_cells_)
    if (plan_.cell(cell.id).leader() == from)
      cell.credits.insert(cell.credits.end(), credits.slots.begin(), credits.slots.end());
  admit(out);
  return out;
}

front_machine::effects front_machine::on_tokens(rank_id from, const tokens& batch, time_point) {
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
    ++one.next_index;
    out.push_back(emit_token{event.request, event.index, event.id});
    if (event.finish != finish_reason::none)
      end(found, event.finish, std::nullopt, out);
  }
  admit(out);
  return out;
}

void front_machine::end(std::map<request_id, entry>::iterator which, finish_reason reason, std::optional<failure> cause,
                        effects& out) {
  const auto& one = which->second;
  const auto load = one.what.prompt.size() + one.what.max_tokens;
  find_cell(prefill_cells_, one.prefill)->tokens -= load;
  find_cell(decode_cells_, one.decode)->tokens -= load;

  const bool orderly = reason == finish_reason::stop || reason == finish_reason::length;
  if (!orderly) { // everybody who may hold something of it lets go (C15, F13)
    const cancel word{one.what.id, cause ? to_string(*cause) : "cancelled by the client"};
    std::vector<cell_id> cells = one.encode;
    std::sort(cells.begin(), cells.end());
    cells.erase(std::unique(cells.begin(), cells.end()), cells.end());
    cells.push_back(one.prefill);
    cells.push_back(one.decode);
    for (const auto cell : cells)
      out.push_back(send_message{plan_.cell(cell).leader(), word});
  }
  out.push_back(end_request{one.what.id, reason, std::move(cause)});
  started_.erase(which);
  finish_drain(out);
}

front_machine::effects front_machine::on_error(rank_id, const error& problem, time_point) {
  effects out;
  if (const auto found = started_.find(problem.request); found != started_.end()) {
    end(found, finish_reason::failed,
        failure{fault_from(problem.code).value_or(fault::executor_failed), problem.message}, out);
    admit(out);
  }
  return out;
}

front_machine::effects front_machine::on_pixels_failed(request_id id, const failure& cause, time_point) {
  effects out;
  if (const auto found = started_.find(id); found != started_.end()) {
    end(found, finish_reason::failed, cause, out);
    admit(out);
  }
  return out;
}

front_machine::effects front_machine::on_cancel(request_id id, time_point) {
  effects out;
  if (const auto found = started_.find(id); found != started_.end()) {
    end(found, finish_reason::cancelled, failure{fault::cancelled, {}}, out);
    admit(out);
    return out;
  }
  const auto queued =
      std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& each) { return each.first.id == id; });
  if (queued != waiting_.end()) {
    waiting_.erase(queued);
    out.push_back(end_request{id, finish_reason::cancelled, failure{fault::cancelled, {}}});
    admit(out);
    finish_drain(out);
  }
  return out;
}

front_machine::effects front_machine::on_cell_gone(rank_id member, const std::string& cause, time_point) {
  effects out;
  for (auto* const cells : {&encode_cells_, &prefill_cells_, &decode_cells_})
    for (auto& cell : *cells)
      if (plan_.cell(cell.id).place_of(member)) {
        cell.gone = true;
        cell.credits.clear();
      }
  const auto lost = [&](cell_id id) { return plan_.cell(id).place_of(member).has_value(); };
  for (auto each = started_.begin(); each != started_.end();) {
    const auto current = each++;
    const auto& one = current->second;
    if (lost(one.prefill) || lost(one.decode) || std::any_of(one.encode.begin(), one.encode.end(), lost))
      end(current, finish_reason::failed, failure{fault::cell_gone, cause}, out);
  }
  admit(out);
  return out;
}

front_machine::effects front_machine::on_drain(time_point now) {
  effects out;
  drain_until_ = now + bounds_.drain_deadline;
  for (auto& [wanted, deadline] : waiting_)
    out.push_back(end_request{wanted.id, finish_reason::failed, failure{fault::shutting_down, {}}});
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
    if (now >= current->second.deadline)
      end(current, finish_reason::failed, late, out);
    else if (drain_until_ && now >= *drain_until_)
      end(current, finish_reason::failed, failure{fault::shutting_down, "cut off by the end of the drain"}, out);
  }
  while (!waiting_.empty() && now >= waiting_.front().second) {
    out.push_back(end_request{waiting_.front().first.id, finish_reason::failed, late});
    waiting_.pop_front();
  }
  admit(out);
  finish_drain(out);
  return out;
}

} // namespace troupe::protocols
