#include "gpu/models/kv_writes.hpp"

#include <algorithm>

#include "runtime/base/assert.hpp"

namespace troupe::gpu::models {

namespace {

struct range {
  std::uint32_t first = 0;
  std::uint32_t last = 0; ///< one past

  bool empty() const noexcept { return first >= last; }
};

range shared(std::uint32_t a_first, std::uint32_t a_count, std::uint32_t b_first, std::uint32_t b_count) noexcept {
  return {std::max(a_first, b_first), std::min(a_first + a_count, b_first + b_count)};
}

} // namespace

shard shard_at(const protocols::cell_plan& cell, std::uint32_t place) noexcept {
  return {.tensor_parallel = cell.tensor_parallel,
          .mesh_rank = cell.mesh_rank_of(place),
          .pipeline_parallel = cell.pipeline_parallel,
          .stage = cell.stage_of(place)};
}

element_kind element_of(protocols::element_type type) noexcept {
  TROUPE_ASSERT("dtype", type != protocols::element_type::u8);
  return type == protocols::element_type::bf16 ? element_kind::bf16 : element_kind::f32;
}

kv_layout layout_at(const model_facts& facts, const protocols::cluster_spec& spec, const protocols::cell_plan& cell,
                    std::uint32_t place) noexcept {
  return layout_of(facts, shard_at(cell, place), spec.limits.kv_tokens_max, element_of(spec.model_dtype));
}

std::vector<std::uint32_t> overlapping_places(const model_facts& facts, const kv_layout& mine,
                                              const protocols::cell_plan& others) {
  std::vector<std::uint32_t> places;
  for (std::uint32_t place = 0; place < others.ranks.size(); ++place) {
    const auto theirs = layout_of(facts, shard_at(others, place), protocols::limits::kv_block_tokens);
    if (!shared(mine.first_head, mine.heads, theirs.first_head, theirs.heads).empty() &&
        !shared(mine.first_layer, mine.layers, theirs.first_layer, theirs.layers).empty())
      places.push_back(place);
  }
  return places;
}

std::map<protocols::cell_id, std::vector<std::uint32_t>> overlapping_cells(const model_facts& facts,
                                                                           const kv_layout& mine,
                                                                           const protocols::cluster_plan& plan,
                                                                           protocols::role_kind others) {
  std::map<protocols::cell_id, std::vector<std::uint32_t>> places;
  for (const auto id : plan.cells_of(others))
    places.emplace(id, overlapping_places(facts, mine, plan.cell(id)));
  return places;
}

std::vector<fabric::write_piece> kv_pieces(const kv_layout& source,
                                           std::span<const protocols::block_index> source_blocks,
                                           const kv_layout& target,
                                           std::span<const protocols::block_index> target_blocks) {
  TROUPE_ASSERT("I13", source_blocks.size() == target_blocks.size());
  const auto heads = shared(source.first_head, source.heads, target.first_head, target.heads);
  const auto layers = shared(source.first_layer, source.layers, target.first_layer, target.layers);
  std::vector<fabric::write_piece> pieces;
  if (heads.empty() || layers.empty())
    return pieces;
  const auto bytes = source.run_bytes() * (layers.last - layers.first);
  for (std::size_t i = 0; i < source_blocks.size(); ++i)
    for (auto head = heads.first; head < heads.last; ++head) {
      const fabric::write_piece next{.source_offset = source.offset(source_blocks[i].value, head, layers.first),
                                     .target_offset = target.offset(target_blocks[i].value, head, layers.first),
                                     .bytes = bytes};
      if (!pieces.empty() && pieces.back().source_offset + pieces.back().bytes == next.source_offset &&
          pieces.back().target_offset + pieces.back().bytes == next.target_offset)
        pieces.back().bytes += bytes;
      else
        pieces.push_back(next);
    }
  return pieces;
}

std::vector<fabric::write_piece> kv_arrival(const kv_layout& theirs, const kv_layout& mine,
                                            std::span<const protocols::block_index> blocks) {
  auto pieces = kv_pieces(theirs, blocks, mine, blocks);
  for (auto& piece : pieces)
    piece.source_offset = piece.target_offset;
  return pieces;
}

} // namespace troupe::gpu::models
