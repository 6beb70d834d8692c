#include <algorithm>
#include <optional>

#include "gpu/serve/step_runner.hpp"
#include "protocols/limits.hpp"
#include "protocols/serve/roles.hpp"
#include "runtime/base/flight_recorder.hpp"

/// The first step of a cell: every collective once and the smallest shapes once, so that the first request pays for
/// nothing (B20).
namespace troupe::gpu {

using namespace protocols;

namespace {

constexpr std::uint32_t least_piece_warmed = 32;   ///< tokens; doubled up to the largest piece
constexpr std::uint32_t picture_sides_warmed = 16; ///< times the least side, in steps of four: 256 tokens

} // namespace

result<void> step_runner::warm(const mesh_plan& plan, step_outcome& out) {
  if (parts_.cell_group)
    if (auto done = warm_group(plan); !done)
      return done;
  std::optional<base::flight_span> part{std::in_place, record_of(start_part::shapes)};
  if (parts_.text) {
    if (auto done = warm_prompts(plan, out); !done)
      return done;
    part.reset();
    if (parts_.cell.role == serve_role::decode && !pipelined())
      if (auto done = open_running(plan); !done)
        return done;
  }
  if (parts_.vision)
    if (auto done = warm_pictures(plan); !done)
      return done;
  out.clear();
  return compare_captures(plan);
}

result<void> step_runner::warm_group(const mesh_plan& plan) {
  auto& cell = *parts_.cell_group;
  std::array<float, 8> few{};
  std::vector<float> gathered(few.size() * cell.size());
  std::array<std::int32_t, 1> least{static_cast<std::int32_t>(admission::done)};
  return cell.begin(plan.call, "warm", 4)
      .and_then([&] { return cell.all_reduce_sum(few); })
      .and_then([&] { return cell.all_gather(few, gathered); })
      .and_then([&] { return cell.all_reduce_min(least); })
      .and_then([&] { return cell.broadcast(std::as_writable_bytes(std::span{few}), 0); })
      .and_then([&] { return cell.end(); });
}

/// A device loads kernels when they are first needed, a library chooses them by size, and the largest piece makes room:
/// together a tenth of a second in the first prompt.
result<void> step_runner::warm_prompts(const mesh_plan& plan, step_outcome& out) {
  if (auto done = warm_prompt(plan, 2, out); !done)
    return done;
  if (parts_.steps_ahead == 0 || parts_.cell.role != serve_role::prefill)
    return {};
  const auto whole = static_cast<std::uint32_t>(
      std::min<std::uint64_t>({limits::prefill_chunk_tokens, parts_.facts.context_max,
                               std::uint64_t{parts_.text->kv().blocks} * limits::kv_block_tokens}));
  for (std::uint32_t tokens = 0; tokens < whole;) {
    tokens = std::min(std::max(2 * tokens, least_piece_warmed), whole);
    if (auto done = warm_prompt(plan, tokens, out); !done)
      return done;
  }
  return {};
}

result<void> step_runner::warm_prompt(const mesh_plan& plan, std::uint32_t tokens, step_outcome& out) {
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
  static const sampling_options greedy;
  how_.assign(1, {&greedy, {}});
  return pass(plan, "warm", out);
}

result<void> step_runner::warm_pictures(const mesh_plan& plan) {
  const auto least = parts_.facts.patch_pixels * parts_.facts.merge;
  const auto largest = parts_.steps_ahead > 0 ? least * picture_sides_warmed : least;
  for (auto side = least; side <= largest && std::uint64_t{side} * side <= parts_.facts.picture_pixels_max; side *= 4)
    if (auto done = warm_picture(plan, side); !done)
      return done;
  return {};
}

result<void> step_runner::warm_picture(const mesh_plan& plan, std::uint32_t side) {
  const std::vector<std::byte> gray(std::size_t{side} * side * 3, std::byte{127});
  const models::vision_model::picture picture{gray, side, side, {}};
  if (!parts_.mesh)
    return parts_.vision->encode(picture, nullptr);
  return parts_.mesh->begin(plan.call, "warm", parts_.vision->collectives(picture, parts_.mesh.get()))
      .and_then([&] { return parts_.vision->encode(picture, parts_.mesh.get()); })
      .and_then([&] { return parts_.mesh->end(); });
}

/// Every size of decode step once, and captured where the device can.
result<void> step_runner::open_running(const mesh_plan& plan) {
  const models::batch_options how{.rows_max = parts_.batch_max,
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

/// That all members of a mesh were told alike they have stated; here each shows what it has made of it, before the
/// first of them runs a collective by itself that another has in a graph (G1, G4, G14).
result<void> step_runner::compare_captures(const mesh_plan& plan) {
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

models::capture_counts step_runner::captures() const noexcept {
  auto counts = parts_.vision ? parts_.vision->captures() : models::capture_counts{};
  if (running_) {
    counts.graphs += running_->captures().graphs;
    counts.eager += running_->captures().eager;
  }
  return counts;
}

void step_runner::note_captures() noexcept {
  const auto now = captures();
  if (now == noted_)
    return;
  base::flight().captured(std::int64_t{now.graphs} - noted_.graphs, now.eager - noted_.eager);
  noted_ = now;
}

} // namespace troupe::gpu
