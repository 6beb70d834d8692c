#include "gpu/serve/step_runner.hpp"

#include <algorithm>
#include <bit>
#include <optional>

#include "gpu/models/rule_tables.hpp"
#include "protocols/limits.hpp"
#include "protocols/mesh/late_step.hpp"
#include "protocols/serve/fault_points.hpp"
#include "protocols/serve/flight_names.hpp"
#include "protocols/serve/step_machine.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_recorder.hpp"

/// The steps that a plan can name, as every rank of the cell takes part in them. `step_warm.cpp` has the first.
namespace troupe::gpu {

using namespace protocols;

static_assert(step_machine::no_token == models::running_batch::no_token);
static_assert(step_machine::not_finite == models::running_batch::not_finite);

namespace {

/// The rank at the same place of the mesh before, and of the one behind.
class cell_hops final : public models::stage_hops {
public:
  cell_hops(group& cell, std::uint32_t place, std::uint32_t width) : cell_(cell), place_(place), width_(width) {}
  result<void> receive(stream& on, const tensor_view& hidden) override {
    return cell_.receive(on, hidden, place_ - width_);
  }
  result<void> send(stream& on, const tensor_view& hidden) override { return cell_.send(on, hidden, place_ + width_); }

private:
  group& cell_;
  std::uint32_t place_;
  std::uint32_t width_;
};

} // namespace

flight_phase phase_of(plan_kind kind) noexcept {
  switch (kind) {
  case plan_kind::warm:
    return flight_phase::warm;
  case plan_kind::vote:
    return serve_phase::vote;
  case plan_kind::encode:
    return serve_phase::encode;
  case plan_kind::prefill:
    return serve_phase::prefill;
  case plan_kind::decode:
    return serve_phase::decode;
  case plan_kind::stop:
    return flight_phase::stop;
  }
  return flight_phase::other;
}

flight_record record_of(const mesh_plan& plan, const cell_plan& cell, flight_action action) noexcept {
  flight_record what{
      .call = plan.call, .group = cell.group.value_or(no_group), .action = action, .phase = phase_of(plan.kind)};
  if (plan.kind == plan_kind::prefill)
    what.item = plan.prefill.request.value;
  return what;
}

step_runner::step_runner(parts made_of, step_events& tells)
    : parts_(std::move(made_of)), tells_(tells), stage_(parts_.cell.stage_of(parts_.place)) {
  batch_.reserve(parts_.batch_max);
  positions_.reserve(parts_.batch_max);
}

result<void> step_runner::run(const mesh_plan& plan, const step_work& work, step_outcome& out) {
  auto done = carry_out(plan, work, out);
  note_captures();
  // A device does not know what it was asked for.
  if (!done && (done.error().code == fault::executor_failed || done.error().code == fault::timeout))
    done = fail(done.error().code, std::string{name(phase_of(plan.kind))} + ", call " +
                                       std::to_string(plan.call.value) + ": " + done.error().what);
  return find_late(plan, std::move(done));
}

result<void> step_runner::carry_out(const mesh_plan& plan, const step_work& work, step_outcome& out) {
  switch (plan.kind) {
  case plan_kind::warm:
    return warm(plan, out);
  case plan_kind::vote:
    return vote(plan, out);
  case plan_kind::encode:
    return encode(plan);
  case plan_kind::prefill:
    return prefill(plan, out);
  case plan_kind::decode:
    return decode(plan, work, out);
  case plan_kind::stop:
    return {};
  }
  return fail(fault::bad_value, "plan kind " + std::to_string(static_cast<int>(plan.kind)));
}

/// A step that did not end in time because another member's GPU has not come ends by its name, here and in the record.
result<void> step_runner::find_late(const mesh_plan& plan, result<void> done) {
  if (done || !parts_.mesh)
    return done;
  auto judged = judge_late_step(done.error(), parts_.mesh->plan(), parts_.mesh->awaited());
  if (!judged.peer)
    return done;
  base::flight_span waiting{{.call = plan.call,
                             .peer = *judged.peer,
                             .group = parts_.mesh->plan().id,
                             .operation = static_cast<std::uint16_t>(collective_kind::all_reduce_sum),
                             .action = flight_action::collective,
                             .phase = phase_of(plan.kind)}};
  (void)waiting.ends(std::move(done)); // late is what it is; whose fault that is stands beside
  return tl::unexpected<failure>{std::move(judged.cause)};
}

// ---- votes, pictures, prompts -------------------------------------------------------------------------------------

result<void> step_runner::vote(const mesh_plan& plan, step_outcome& out) {
  TROUPE_ASSERT("B15", out.votes.size() == plan.rooms.size());
  if (!parts_.cell_group)
    return {};
  return parts_.cell_group->begin(plan.call, "vote", 1)
      .and_then([&] { return parts_.cell_group->all_reduce_min(out.votes); })
      .and_then([&] { return parts_.cell_group->end(); });
}

result<void> step_runner::encode(const mesh_plan& plan) {
  TROUPE_FAULT_POINT_OF(serve_fault_points, "encode.stepping");
  for (const auto& item : plan.pictures)
    if (auto done = encode_one(plan, item); !done)
      return done;
  return {};
}

result<void> step_runner::encode_one(const mesh_plan& plan, const tower_item& item) {
  const auto pixel_bytes = std::uint64_t{item.height} * item.width * 3;
  const auto side = parts_.facts.patch_pixels * parts_.facts.merge;
  if (side == 0 || item.height % side != 0 || item.width % side != 0 || pixel_bytes > parts_.pixels.slot_bytes)
    return fail(fault::bad_value, "picture of " + std::to_string(item.height) + " x " + std::to_string(item.width));
  tensor_view rows; // the leader's alone are sent
  if (leads())
    rows = parts_.rows.rows(item.rows, 0, item.height / side * (item.width / side), parts_.facts.row_elements());
  const models::vision_model::picture picture{parts_.pixels.slot(item.pixels).first(pixel_bytes), item.height,
                                              item.width, rows};
  if (parts_.mesh)
    if (auto begun = parts_.mesh->begin(plan.call, "encode", parts_.vision->collectives(picture, parts_.mesh.get()));
        !begun)
      return begun;
  if (auto done = parts_.vision->begin(picture, parts_.mesh.get()); !done)
    return done;
  if (parts_.mesh)
    if (auto done = parts_.mesh->end(); !done)
      return done;
  // The rows are sent behind their event. With a mesh the pixels of other members are given back too, and that those
  // have read theirs is known when the sums over all of them have ended.
  if (!parts_.mesh)
    tells_.encoded(item.room, parts_.vision->ready());
  if (auto done = parts_.vision->finish(); !done)
    return done;
  if (parts_.mesh && leads())
    tells_.encoded(item.room, parts_.vision->ready());
  return {};
}

result<void> step_runner::prefill(const mesh_plan& plan, step_outcome& out) {
  const auto& piece = plan.prefill;
  const auto end = piece.begin + static_cast<std::uint32_t>(piece.ids.size());
  if (piece.positions.size() != piece.ids.size() || piece.ids.empty() ||
      piece.blocks.size() * limits::kv_block_tokens < end)
    return fail(fault::bad_value, "prefill piece");

  pictures_.clear();
  for (const auto& picture : piece.pictures) {
    const auto first = std::max(picture.first_token, piece.begin);
    const auto last = std::min(picture.first_token + picture.tokens, end);
    pictures_.push_back({.first = first - piece.begin,
                         .count = last - first,
                         .rows = parts_.rows.rows(picture.rows, first - picture.first_token, last - first,
                                                  parts_.facts.row_elements())});
  }
  batch_.assign(1, {.ids = piece.ids,
                    .positions = piece.positions,
                    .context = piece.begin,
                    .blocks = piece.blocks,
                    .pictures = pictures_,
                    .wants_logits = piece.last});
  how_.assign(piece.last ? 1 : 0, {&piece.sampling, {}});
  return pass(plan, "prefill", out);
}

// ---- decode steps -------------------------------------------------------------------------------------------------

result<void> step_runner::decode(const mesh_plan& plan, const step_work& work, step_outcome& out) {
  if (pipelined())
    return work.rows.empty() ? result<void>{} : step_chain(plan, work, out);
  TROUPE_ASSERT("B20", running_ != nullptr);
  return change_batch(plan.decode, work).and_then([&] { return step_running(plan, work, out); });
}

result<void> step_runner::change_batch(const decode_step& step, const step_work& work) {
  for (const auto place : work.leaves)
    if (auto left = running_->leave(place); !left)
      return left;
  TROUPE_ASSERT("B18", work.joins.size() == step.joins.size());
  const auto stayed = step.ids.size() - step.joins.size();
  for (std::size_t i = 0; i < step.joins.size(); ++i) {
    const auto& one = step.joins[i];
    const auto place = running_->join({.newest = step.ids[stayed + i],
                                       .context = one.context,
                                       .position_delta = one.position_delta,
                                       .blocks = one.blocks,
                                       .sampling = one.sampling,
                                       .answered = 1});
    if (!place)
      return tl::unexpected<failure>{place.error()};
    TROUPE_ASSERT("B18", *place == work.joins[i]);
  }
  return {};
}

/// Begins the next step, then takes the tokens of what has to be over by now.
result<void> step_runner::step_running(const mesh_plan& plan, const step_work& work, step_outcome& out) {
  if (work.steps) {
    if (parts_.mesh)
      if (auto begun = parts_.mesh->begin(plan.call, "decode", running_->collectives()); !begun)
        return begun;
    if (auto done = running_->step(parts_.mesh.get()); !done)
      return done;
    if (parts_.mesh)
      if (auto done = parts_.mesh->end(); !done)
        return done;
  }
  for (; out.collected < work.collects; ++out.collected) {
    const auto chosen = running_->collect(base::now() + parts_.step_deadline);
    if (!chosen)
      return tl::unexpected<failure>{chosen.error()};
    for (const auto& one : *chosen) {
      out.tokens.push_back({out.collected, one.place, one.id, static_cast<std::uint32_t>(out.logprobs.size()),
                            static_cast<std::uint32_t>(one.logprobs.size())});
      out.logprobs.insert(out.logprobs.end(), one.logprobs.begin(), one.logprobs.end());
    }
  }
  return {};
}

result<void> step_runner::step_chain(const mesh_plan& plan, const step_work& work, step_outcome& out) {
  positions_.clear();
  for (const auto& row : work.rows)
    positions_.push_back({row.position, row.position, row.position});
  batch_.clear();
  how_.clear();
  for (std::size_t i = 0; i < work.rows.size(); ++i) {
    const auto& row = work.rows[i];
    batch_.push_back({.ids = std::span{plan.decode.ids}.subspan(i, 1),
                      .positions = std::span{positions_}.subspan(i, 1),
                      .context = row.context,
                      .blocks = row.blocks,
                      .pictures = {},
                      .wants_logits = true});
    how_.push_back({row.sampling, {.position = row.answer_index, .tokens = row.answer}});
  }
  return pass(plan, "decode", out);
}

// ---- one pass -----------------------------------------------------------------------------------------------------

result<void> step_runner::pass(const mesh_plan& plan, std::string_view phase, step_outcome& out) {
  // At the end of a prompt the mesh compares what each of its ranks holds a copy of (G9).
  const bool compares = parts_.mesh && plan.kind == plan_kind::prefill && plan.prefill.last;
  return begin_groups(plan, phase, compares)
      .and_then([&] { return compute(plan, compares); })
      .and_then([&] { return choose(out); })
      .and_then([&] { return end_groups(); });
}

result<void> step_runner::begin_groups(const mesh_plan& plan, std::string_view phase, bool compares) {
  const bool chooses = !how_.empty();
  if (parts_.mesh)
    if (auto begun = parts_.mesh->begin(plan.call, phase, parts_.text->mesh_collectives(chooses) + (compares ? 1 : 0));
        !begun)
      return begun;
  if (!pipelined())
    return {};
  const std::uint32_t hops =
      (stage_ > 0 ? 1u : 0u) + (last_stage() ? 0u : 1u) + (chooses && (leads() || parts_.place == chooser()) ? 1u : 0u);
  return parts_.cell_group->begin(plan.call, phase, hops);
}

result<void> step_runner::compute(const mesh_plan& plan, bool compares) {
  logits_.resize(parts_.place == chooser() ? how_.size() * parts_.facts.vocabulary : 0);
  std::optional<cell_hops> hops;
  if (pipelined())
    hops.emplace(*parts_.cell_group, parts_.place, parts_.cell.tensor_parallel);
  if (auto done = parts_.text->begin(batch_, hops ? &*hops : nullptr, logits_, parts_.mesh.get()); !done)
    return done;
  if (plan.kind == plan_kind::prefill && plan.prefill.last)
    tells_.prefilled(plan.prefill, parts_.text->ready());
  replicas_.resize(compares && parts_.mesh->self() == 0 ? parts_.mesh->size() : 0);
  if (compares)
    if (auto done = parts_.text->gather_replicas(*parts_.mesh, replicas_); !done)
      return done;
  // Of a pass that tells the host nothing the end is not waited for: the next one is put behind it.
  if (logits_.empty() && replicas_.empty())
    return {};
  return parts_.text->finish().and_then([&] { return compare_replicas(); });
}

/// Only the leader of the last stage chooses: one decision, told to the leader of the cell, which announces it with the
/// next plan. That every rank of the mesh has the same logits is no reason to let every rank decide (B11).
result<void> step_runner::choose(step_outcome& out) {
  out.chosen.resize(how_.size());
  if (parts_.place == chooser()) {
    const std::size_t width = parts_.facts.vocabulary;
    for (std::size_t i = 0; i < how_.size(); ++i) {
      const auto told = out.logprobs.size() + how_[i].options->rules.told();
      out.chosen[i] =
          models::choose(std::span{logits_}.subspan(i * width, width), *how_[i].options, how_[i].so_far, out.logprobs);
      out.logprobs.resize(told, {-1, 0.0F}); // where nothing could be chosen
    }
  }
  return how_.empty() || !pipelined() ? result<void>{} : exchange(out);
}

result<void> step_runner::exchange(step_outcome& out) {
  const auto ids = how_.size();
  std::size_t told = 0;
  for (const auto& each : how_)
    told += each.options->rules.told();
  chosen_.resize(ids + 2 * told);
  if (parts_.place == chooser()) {
    std::ranges::copy(out.chosen, chosen_.begin());
    for (std::size_t i = 0; i < told; ++i) {
      chosen_[ids + 2 * i] = out.logprobs[i].id;
      chosen_[ids + 2 * i + 1] = std::bit_cast<std::int32_t>(out.logprobs[i].value);
    }
    return parts_.cell_group->send(0, std::as_bytes(std::span{chosen_}));
  }
  if (!leads())
    return {};
  if (auto came = parts_.cell_group->receive(chooser(), std::as_writable_bytes(std::span{chosen_})); !came)
    return came;
  out.chosen.assign(chosen_.begin(), chosen_.begin() + static_cast<std::ptrdiff_t>(ids));
  models::read_told(std::span{chosen_}.subspan(ids), out.logprobs);
  return {};
}

result<void> step_runner::end_groups() {
  if (parts_.mesh)
    if (auto done = parts_.mesh->end(); !done)
      return done;
  return pipelined() ? parts_.cell_group->end() : result<void>{};
}

result<void> step_runner::compare_replicas() const {
  if (replicas_.empty())
    return {};
  if (auto found = protocols::compare_replicas(replicas_, parts_.mesh->plan().members))
    return fail(fault::replica_mismatch, *found);
  return {};
}

} // namespace troupe::gpu
