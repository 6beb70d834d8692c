#include <algorithm>

#include "actors/mesh_executor.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/flight_recorder.hpp"

/// One token for every active sequence, as every rank of the cell takes part in it.
namespace troupe::actors {

using namespace protocols;

/// Every size of step once, and captured where the device can.
result<void> mesh_executor::open_running(const mesh_plan& plan) {
  const gpu::models::batch_options how{.rows_max = parts_.batch_max,
                                       .capture = *parts_.captures && (!parts_.mesh || parts_.mesh->capturable())};
  const base::flight_span part{record_of(start_part::capture)};
  if (parts_.mesh)
    if (auto begun = parts_.mesh->begin(plan.call, "warm", parts_.text->opening_collectives(how)); !begun)
      return begun;
  auto opened = parts_.text->open_batch(how, parts_.mesh.get());
  if (!opened)
    return tl::unexpected<failure>{opened.error()};
  running_ = *std::move(opened);
  return parts_.mesh ? parts_.mesh->end() : result<void>{};
}

result<void> mesh_executor::perform_decode(const mesh_plan& plan) {
  if (auto changed = change_batch(plan.decode); !changed)
    return changed;
  if (running_)
    return step_running(plan);
  return rows_.empty() ? result<void>{} : step_chain(plan);
}

/// Leaves, then joins, as announced. The ranks of a mesh choose each token for themselves, from the same logits; that
/// they chose the same is checked here, a step later, against what the leader was told (B11, G7).
result<void> mesh_executor::change_batch(const decode_step& step) {
  for (const auto request : step.leaves) {
    const auto found = std::ranges::find(rows_, request, [](const row& one) { return one.what.request; });
    if (found == rows_.end())
      continue;
    if (running_)
      if (auto left = running_->leave(found->place); !left)
        return left;
    rows_.erase(found);
  }
  const auto stayed = rows_.size();
  if (step.ids.size() != stayed + step.joins.size() || step.ids.size() > parts_.batch_max)
    return fail(fault::plan_mismatch, "decode step of " + std::to_string(step.ids.size()) + " rows, this rank has " +
                                          std::to_string(stayed) + " and " + std::to_string(step.joins.size()) +
                                          " join");
  for (std::size_t i = 0; running_ && i < stayed; ++i)
    if (rows_[i].newest != step.ids[i])
      return fail(fault::plan_mismatch, "token " + std::to_string(rows_[i].newest) + " of request " +
                                            std::to_string(rows_[i].what.request.value) +
                                            " on this rank, the leader has " + std::to_string(step.ids[i]));
  for (std::size_t i = 0; i < step.joins.size(); ++i) {
    auto& one = leads() ? rows_.emplace_back(std::move(entering_[i]))
                        : rows_.emplace_back(row{.what = step.joins[i],
                                                 .context = step.joins[i].context,
                                                 .newest = step.ids[stayed + i],
                                                 .end_tokens = {}});
    if (!running_)
      continue;
    const auto place = running_->join({.newest = one.newest,
                                       .context = one.context,
                                       .position_delta = one.what.position_delta,
                                       .blocks = one.what.blocks,
                                       .sampling = one.what.sampling,
                                       .answered = 1});
    if (!place)
      return tl::unexpected<failure>{place.error()};
    one.place = *place;
    one.entered = begun_;
  }
  entering_.clear();
  return {};
}

/// Begins the next step, then takes the tokens of what has to be over by now.
result<void> mesh_executor::step_running(const mesh_plan& plan) {
  if (!rows_.empty()) {
    if (parts_.mesh)
      if (auto begun = parts_.mesh->begin(plan.call, "decode", running_->collectives()); !begun)
        return begun;
    if (auto done = running_->step(parts_.mesh.get()); !done)
      return done;
    if (parts_.mesh)
      if (auto done = parts_.mesh->end(); !done)
        return done;
    ++begun_;
  }
  for (const auto until = begun_ - std::min<std::uint64_t>(begun_, rows_.empty() ? 0 : parts_.steps_ahead);
       collected_ < until;) {
    const auto chosen = running_->collect(base::now() + parts_.step_deadline);
    if (!chosen)
      return tl::unexpected<failure>{chosen.error()};
    ++collected_;
    for (const auto& [place, id] : *chosen)
      take_token(place, id);
  }
  return {};
}

void mesh_executor::take_token(std::uint32_t place, token_id id) {
  // A place goes to the next sequence while a step with the one before is still on its way.
  const auto found =
      std::ranges::find_if(rows_, [&](const row& one) { return one.place == place && one.entered < collected_; });
  if (found == rows_.end() || id == gpu::models::running_batch::no_token)
    return;
  found->newest = id;
  ++found->context;
  if (leads())
    answer(*found);
}

result<void> mesh_executor::step_chain(const mesh_plan& plan) {
  positions_.clear();
  for (const auto& one : rows_) {
    const auto at = static_cast<std::int32_t>(one.context) + one.what.position_delta;
    positions_.push_back({at, at, at});
  }
  batch_.clear();
  how_.clear();
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const auto& one = rows_[i];
    batch_.push_back({.ids = std::span{plan.decode.ids}.subspan(i, 1),
                      .positions = std::span{positions_}.subspan(i, 1),
                      .context = one.context,
                      .blocks = one.what.blocks,
                      .pictures = {},
                      .wants_logits = true});
    how_.emplace_back(one.what.sampling, one.context + 1 - one.what.context);
  }
  if (auto done = forward(plan, "decode", rows_.size()); !done)
    return done;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    ++rows_[i].context;
    if (!leads())
      continue;
    rows_[i].newest = chosen_[i];
    answer(rows_[i]);
  }
  return {};
}

void mesh_executor::answer(row& one) {
  if (one.ended)
    return; // a step that was on its way when the last token was collected
  if (one.newest == gpu::models::running_batch::not_finite) { // this sequence alone: rows do not touch each other (K8)
    one.ended = one.leaving = true;
    calls_.on_given_up(one.what.request, not_finite(one.answered), true);
    return;
  }
  const bool ends = std::ranges::find(one.end_tokens, one.newest) != one.end_tokens.end();
  const auto finish = ends                                 ? finish_reason::stop
                      : one.answered + 1 >= one.max_tokens ? finish_reason::length
                                                           : finish_reason::none;
  emitted_.push_back({one.what.request, one.answered, one.newest, finish});
  ++one.answered;
  one.ended = finish != finish_reason::none;
  one.leaving = one.leaving || one.ended;
}

} // namespace troupe::actors
