#include <algorithm>
#include <cstring>

#include "actors/mesh_executor.hpp"
#include "runtime/base/fault_point.hpp"

/// The steps that a plan can name, as every rank of the cell takes part in them.
namespace troupe::actors {

using namespace protocols;

namespace {

/// The rank at the same place of the mesh before, and of the one behind.
class cell_hops final : public gpu::models::stage_hops {
public:
  cell_hops(gpu::group& cell, std::uint32_t place, std::uint32_t width) : cell_(cell), place_(place), width_(width) {}
  result<void> receive(gpu::stream& on, const gpu::tensor_view& hidden) override {
    return cell_.receive(on, hidden, place_ - width_);
  }
  result<void> send(gpu::stream& on, const gpu::tensor_view& hidden) override {
    return cell_.send(on, hidden, place_ + width_);
  }

private:
  gpu::group& cell_;
  std::uint32_t place_;
  std::uint32_t width_;
};

} // namespace

/// Every collective once and the smallest shapes once, so that the first request pays for nothing (B20).
result<void> mesh_executor::perform_warm(const mesh_plan& plan) {
  std::array<float, 8> few{};
  if (parts_.cell_group) {
    std::vector<float> gathered(few.size() * parts_.cell_group->size());
    std::array<std::int32_t, 1> least{static_cast<std::int32_t>(admission::done)};
    if (auto begun = parts_.cell_group->begin(plan.call, "warm", 4); !begun)
      return begun;
    if (auto done = parts_.cell_group->all_reduce_sum(few); !done)
      return done;
    if (auto done = parts_.cell_group->all_gather(few, gathered); !done)
      return done;
    if (auto done = parts_.cell_group->all_reduce_min(least); !done)
      return done;
    if (auto done = parts_.cell_group->broadcast(std::as_writable_bytes(std::span{few}), 0); !done)
      return done;
    if (auto done = parts_.cell_group->end(); !done)
      return done;
  }
  if (parts_.text) {
    const std::array<token_id, 2> ids{0, 0};
    const std::array<std::array<std::int32_t, 3>, 2> positions{{{0, 0, 0}, {1, 1, 1}}};
    const std::array<block_index, 1> blocks{block_index{0}};
    batch_.assign(
        1, {.ids = ids, .positions = positions, .context = 0, .blocks = blocks, .pictures = {}, .wants_logits = true});
    how_.assign(1, {sampling_options{}, 0});
    if (auto done = forward(plan, "warm", 1); !done)
      return done;
    if (parts_.cell.role == role_kind::decode && parts_.cell.pipeline_parallel == 1)
      if (auto done = open_running(plan); !done)
        return done;
  }
  if (parts_.vision) {
    const auto side = parts_.facts.patch_pixels * parts_.facts.merge;
    const std::vector<std::byte> gray(std::size_t{side} * side * 3, std::byte{127});
    const std::array<gpu::models::vision_model::picture, 1> pictures{{{gray, side, side, {}}}};
    if (parts_.mesh)
      if (auto begun = parts_.mesh->begin(plan.call, "warm", parts_.vision->collectives(1)); !begun)
        return begun;
    if (auto done = parts_.vision->encode(pictures, parts_.mesh.get()); !done)
      return done;
    if (parts_.mesh)
      return parts_.mesh->end();
  }
  return {};
}

result<void> mesh_executor::perform_vote(const mesh_plan& plan) {
  votes_.clear();
  for (const auto room : plan.rooms)
    votes_.push_back(static_cast<std::int32_t>(board_.of(room)));
  if (!parts_.cell_group)
    return {};
  if (auto begun = parts_.cell_group->begin(plan.call, "vote", 1); !begun)
    return begun;
  if (auto done = parts_.cell_group->all_reduce_min(votes_); !done)
    return done;
  return parts_.cell_group->end();
}

result<void> mesh_executor::perform_encode(const mesh_plan& plan) {
  TROUPE_FAULT_POINT("encode.stepping");
  for (const auto& item : plan.pictures) {
    const auto pixel_bytes = std::uint64_t{item.height} * item.width * 3;
    const auto side = parts_.facts.patch_pixels * parts_.facts.merge;
    if (side == 0 || item.height % side != 0 || item.width % side != 0 || pixel_bytes > parts_.pixels.slot_bytes)
      return fail(fault::bad_value, "picture of " + std::to_string(item.height) + " x " + std::to_string(item.width));
    gpu::tensor_view rows; // the leader's alone are sent
    if (leads())
      rows = parts_.rows.rows(item.rows, 0, item.height / side * (item.width / side), parts_.facts.row_elements());
    const std::array<gpu::models::vision_model::picture, 1> pictures{
        {{parts_.pixels.slot(item.pixels).first(pixel_bytes), item.height, item.width, rows}}};
    if (parts_.mesh)
      if (auto begun = parts_.mesh->begin(plan.call, "encode", parts_.vision->collectives(1)); !begun)
        return begun;
    if (auto done = parts_.vision->encode(pictures, parts_.mesh.get()); !done)
      return done;
    if (parts_.mesh)
      if (auto done = parts_.mesh->end(); !done)
        return done;
  }
  return {};
}

result<void> mesh_executor::perform_prefill(const mesh_plan& plan) {
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
  how_.assign(piece.last ? 1 : 0, {piece.sampling, 0});
  if (auto done = forward(plan, "prefill", how_.size()); !done)
    return done;
  if (piece.last)
    calls_.on_prefilled(piece);
  return {};
}

result<void> mesh_executor::forward(const mesh_plan& plan, std::string_view phase, std::size_t choices) {
  const bool pipelined = parts_.cell.pipeline_parallel > 1;
  const auto width = parts_.cell.tensor_parallel;
  const bool chooses = choices > 0;
  const auto last_leader = (parts_.cell.pipeline_parallel - 1) * width;

  if (parts_.mesh)
    if (auto begun = parts_.mesh->begin(plan.call, phase, parts_.text->mesh_collectives(chooses)); !begun)
      return begun;
  if (pipelined) {
    const std::uint32_t hops = (stage_ > 0 ? 1u : 0u) + (last_stage() ? 0u : 1u) +
                               (chooses && (place_ == 0 || place_ == last_leader) ? 1u : 0u);
    if (auto begun = parts_.cell_group->begin(plan.call, phase, hops); !begun)
      return begun;
  }
  logits_.resize(last_stage() ? choices * parts_.facts.vocabulary : 0);

  std::optional<cell_hops> hops;
  if (pipelined)
    hops.emplace(*parts_.cell_group, place_, width);
  if (auto done = parts_.text->forward(batch_, hops ? &*hops : nullptr, logits_, parts_.mesh.get()); !done)
    return done;

  // Only the leader of the last stage chooses: one decision, told to the leader of the cell, which announces it with
  // the next plan. That every rank of the mesh has the same logits is no reason to let every rank decide (B11).
  chosen_.resize(choices);
  if (chooses && place_ == last_leader) {
    for (std::size_t i = 0; i < choices; ++i)
      chosen_[i] = gpu::models::choose(std::span{logits_}.subspan(i * parts_.facts.vocabulary, parts_.facts.vocabulary),
                                       how_[i].first, how_[i].second);
    if (pipelined)
      if (auto done = parts_.cell_group->send(0, std::as_bytes(std::span{chosen_})); !done)
        return done;
  } else if (chooses && place_ == 0) {
    if (auto done = parts_.cell_group->receive(last_leader, std::as_writable_bytes(std::span{chosen_})); !done)
      return done;
  }
  if (parts_.mesh)
    if (auto done = parts_.mesh->end(); !done)
      return done;
  return pipelined ? parts_.cell_group->end() : result<void>{};
}

} // namespace troupe::actors
