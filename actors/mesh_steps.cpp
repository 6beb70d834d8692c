#include <algorithm>
#include <cstring>

#include "actors/mesh_executor.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_recorder.hpp"

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

constexpr std::uint32_t least_piece_warmed = 32;   ///< tokens; doubled up to the largest piece
constexpr std::uint32_t picture_sides_warmed = 16; ///< times the least side, in steps of four: 256 tokens

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
  std::optional<base::flight_span> part{std::in_place, record_of(start_part::shapes)};
  if (parts_.text) {
    if (auto done = warm_text(plan, 2); !done)
      return done;
    // A device loads kernels when they are first needed, a library chooses them by size, and the largest piece makes
    // room: together a tenth of a second in the first prompt.
    const auto whole = static_cast<std::uint32_t>(
        std::min<std::uint64_t>({limits::prefill_chunk_tokens, parts_.facts.context_max,
                                 std::uint64_t{parts_.text->kv().blocks} * limits::kv_block_tokens}));
    if (parts_.steps_ahead > 0 && parts_.cell.role == role_kind::prefill)
      for (std::uint32_t tokens = 0; tokens < whole;) {
        tokens = std::min(std::max(2 * tokens, least_piece_warmed), whole);
        if (auto done = warm_text(plan, tokens); !done)
          return done;
      }
    part.reset();
    if (parts_.cell.role == role_kind::decode && parts_.cell.pipeline_parallel == 1)
      if (auto done = open_running(plan); !done)
        return done;
  }
  if (parts_.vision) {
    const auto least = parts_.facts.patch_pixels * parts_.facts.merge;
    const auto largest = parts_.steps_ahead > 0 ? least * picture_sides_warmed : least;
    for (auto side = least; side <= largest && std::uint64_t{side} * side <= parts_.facts.picture_pixels_max; side *= 4)
      if (auto done = warm_vision(plan, side); !done)
        return done;
  }
  return compare_captures(plan);
}

result<void> mesh_executor::warm_vision(const mesh_plan& plan, std::uint32_t side) {
  const std::vector<std::byte> gray(std::size_t{side} * side * 3, std::byte{127});
  const gpu::models::vision_model::picture picture{gray, side, side, {}};
  if (!parts_.mesh)
    return parts_.vision->encode(picture, nullptr);
  return parts_.mesh->begin(plan.call, "warm", parts_.vision->collectives(picture, parts_.mesh.get()))
      .and_then([&] { return parts_.vision->encode(picture, parts_.mesh.get()); })
      .and_then([&] { return parts_.mesh->end(); });
}

result<void> mesh_executor::warm_text(const mesh_plan& plan, std::uint32_t tokens) {
  const std::vector<token_id> ids(tokens, 0);
  std::vector<std::array<std::int32_t, 3>> positions;
  std::vector<block_index> blocks;
  for (std::uint32_t i = 0; i < tokens; ++i) {
    const auto at = static_cast<std::int32_t>(i);
    positions.push_back({at, at, at});
    if (i % limits::kv_block_tokens == 0)
      blocks.emplace_back(i / limits::kv_block_tokens);
  }
  batch_.assign(
      1, {.ids = ids, .positions = positions, .context = 0, .blocks = blocks, .pictures = {}, .wants_logits = true});
  how_.assign(1, {sampling_options{}, 0});
  return forward(plan, "warm", 1);
}

/// That all members of a mesh were told alike they have stated; here each shows what it has made of it, before the
/// first of them runs a collective by itself that another has in a graph (G1, G4, G14).
result<void> mesh_executor::compare_captures(const mesh_plan& plan) {
  if (!parts_.mesh)
    return {};
  const auto mine = captures();
  const std::array facts{static_cast<float>(mine.graphs), static_cast<float>(mine.eager),
                         *parts_.captures ? 1.0F : 0.0F};
  std::vector<float> all(facts.size() * parts_.mesh->size());
  auto done = parts_.mesh->begin(plan.call, "warm", 1)
                  .and_then([&] { return parts_.mesh->all_gather(facts, all); })
                  .and_then([&] { return parts_.mesh->end(); });
  if (!done)
    return done;
  const auto in_words = [](const float* of) {
    return std::to_string(static_cast<int>(of[0])) + " graphs and " + std::to_string(static_cast<int>(of[1])) +
           " runs without" + (of[2] > 0.0F ? "" : ", told to capture nothing");
  };
  const auto& members = parts_.mesh->plan().members;
  for (std::size_t i = 1; i < members.size(); ++i)
    if (!std::equal(all.begin(), all.begin() + std::ssize(facts),
                    all.begin() + std::ssize(facts) * static_cast<std::ptrdiff_t>(i)))
      return fail(fault::plan_mismatch, "rank " + std::to_string(members[i].value) + " has captured " +
                                            in_words(&all[i * facts.size()]) + ", rank " +
                                            std::to_string(members[0].value) + " " + in_words(all.data()));
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
    const gpu::models::vision_model::picture picture{parts_.pixels.slot(item.pixels).first(pixel_bytes), item.height,
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
      calls_.on_encoded(item.room, parts_.vision->ready());
    if (auto done = parts_.vision->finish(); !done)
      return done;
    if (parts_.mesh && leads())
      calls_.on_encoded(item.room, parts_.vision->ready());
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
  return forward(plan, "prefill", how_.size());
}

result<void> mesh_executor::compare_replicas() const {
  if (replicas_.empty())
    return {};
  if (auto found = protocols::compare_replicas(replicas_, parts_.mesh->plan().members))
    return fail(fault::replica_mismatch, *found);
  return {};
}

result<void> mesh_executor::forward(const mesh_plan& plan, std::string_view phase, std::size_t choices) {
  const bool pipelined = parts_.cell.pipeline_parallel > 1;
  const auto width = parts_.cell.tensor_parallel;
  const bool chooses = choices > 0;
  const auto last_leader = (parts_.cell.pipeline_parallel - 1) * width;

  // At the end of a prompt the mesh compares what each of its ranks holds a copy of (G9).
  const bool compares = parts_.mesh && plan.kind == plan_kind::prefill && plan.prefill.last;

  if (parts_.mesh)
    if (auto begun = parts_.mesh->begin(plan.call, phase, parts_.text->mesh_collectives(chooses) + (compares ? 1 : 0));
        !begun)
      return begun;
  if (pipelined) {
    const std::uint32_t hops = (stage_ > 0 ? 1u : 0u) + (last_stage() ? 0u : 1u) +
                               (chooses && (place_ == 0 || place_ == last_leader) ? 1u : 0u);
    if (auto begun = parts_.cell_group->begin(plan.call, phase, hops); !begun)
      return begun;
  }
  logits_.resize(place_ == last_leader ? choices * parts_.facts.vocabulary : 0);

  std::optional<cell_hops> hops;
  if (pipelined)
    hops.emplace(*parts_.cell_group, place_, width);
  if (auto done = parts_.text->begin(batch_, hops ? &*hops : nullptr, logits_, parts_.mesh.get()); !done)
    return done;
  if (plan.kind == plan_kind::prefill && plan.prefill.last)
    calls_.on_prefilled(plan.prefill, parts_.text->ready());
  replicas_.resize(compares && parts_.mesh->self() == 0 ? parts_.mesh->size() : 0);
  if (compares)
    if (auto done = parts_.text->gather_replicas(*parts_.mesh, replicas_); !done)
      return done;
  // Of a pass that tells the host nothing the end is not waited for: the next one is put behind it.
  if (!logits_.empty() || !replicas_.empty())
    if (auto done = parts_.text->finish().and_then([&] { return compare_replicas(); }); !done)
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
