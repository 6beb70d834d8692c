#include "gpu/models/kv_writes.hpp"

#include <cstring>
#include <map>
#include <tuple>

#include <doctest/doctest.h>

using namespace troupe;
using namespace troupe::protocols;

namespace {

gpu::models::model_facts facts_of(std::uint32_t kv_heads, std::uint32_t layers) {
  gpu::models::model_facts facts;
  facts.kv_heads = kv_heads;
  facts.layers = layers;
  facts.head_elements = 4;
  return facts;
}

cell_plan cell_of(std::uint32_t tensor_parallel, std::uint32_t pipeline_parallel) {
  cell_plan cell;
  cell.tensor_parallel = tensor_parallel;
  cell.pipeline_parallel = pipeline_parallel;
  for (std::uint32_t i = 0; i < tensor_parallel * pipeline_parallel; ++i)
    cell.ranks.push_back(rank_id{i});
  return cell;
}

constexpr std::uint32_t tokens_max = 4 * limits::kv_block_tokens;

/// What stands in a pool at (sequence block, model head, model layer), so that it can be recognised anywhere.
std::byte mark(std::size_t block, std::uint32_t head, std::uint32_t layer) {
  return static_cast<std::byte>(1 + block * 64 + head * 8 + layer);
}

struct degree {
  std::uint32_t tensor_parallel;
  std::uint32_t pipeline_parallel;
};

} // namespace

TEST_CASE(
    "I16, I31: keys and values arrive where the other side's layout has them, whatever the two degrees, and go on "
    "from there to the device") {
  const auto facts = facts_of(4, 4);
  const degree degrees[]{{1, 1}, {2, 1}, {4, 1}, {1, 2}, {2, 2}};
  const std::vector<block_index> from{block_index{3}, block_index{0}, block_index{2}};
  const std::vector<block_index> to{block_index{1}, block_index{2}, block_index{0}};

  for (const auto source_degree : degrees)
    for (const auto target_degree : degrees) {
      const auto prefill = cell_of(source_degree.tensor_parallel, source_degree.pipeline_parallel);
      const auto decode = cell_of(target_degree.tensor_parallel, target_degree.pipeline_parallel);
      CAPTURE(source_degree.tensor_parallel);
      CAPTURE(source_degree.pipeline_parallel);
      CAPTURE(target_degree.tensor_parallel);
      CAPTURE(target_degree.pipeline_parallel);

      std::map<std::uint32_t, std::vector<std::byte>> pools, devices;
      for (std::uint32_t place = 0; place < decode.ranks.size(); ++place) {
        pools[place].resize(gpu::models::layout_of(facts, gpu::models::shard_at(decode, place), tokens_max).bytes());
        devices[place].resize(pools[place].size());
      }

      for (std::uint32_t place = 0; place < prefill.ranks.size(); ++place) {
        const auto mine = gpu::models::layout_of(facts, gpu::models::shard_at(prefill, place), tokens_max);
        std::vector<std::byte> pool(mine.bytes());
        for (std::size_t i = 0; i < from.size(); ++i)
          for (auto head = mine.first_head; head < mine.first_head + mine.heads; ++head)
            for (auto layer = mine.first_layer; layer < mine.first_layer + mine.layers; ++layer)
              std::memset(pool.data() + mine.offset(from[i].value, head, layer), static_cast<int>(mark(i, head, layer)),
                          mine.run_bytes());
        for (const auto receiver : gpu::models::overlapping_places(facts, mine, decode)) {
          const auto theirs = gpu::models::layout_of(facts, gpu::models::shard_at(decode, receiver), tokens_max);
          for (const auto& piece : gpu::models::kv_pieces(mine, from, theirs, to)) {
            REQUIRE(piece.source_offset + piece.bytes <= pool.size());
            REQUIRE(piece.target_offset + piece.bytes <= pools[receiver].size());
            std::memcpy(pools[receiver].data() + piece.target_offset, pool.data() + piece.source_offset, piece.bytes);
          }
          for (const auto& piece : gpu::models::kv_arrival(mine, theirs, to)) {
            REQUIRE(piece.source_offset == piece.target_offset);
            REQUIRE(piece.target_offset + piece.bytes <= devices[receiver].size());
            std::memcpy(devices[receiver].data() + piece.target_offset, pools[receiver].data() + piece.source_offset,
                        piece.bytes);
          }
        }
      }

      for (std::uint32_t place = 0; place < decode.ranks.size(); ++place) {
        const auto theirs = gpu::models::layout_of(facts, gpu::models::shard_at(decode, place), tokens_max);
        bool whole = true;
        for (std::size_t i = 0; i < to.size(); ++i)
          for (auto head = theirs.first_head; head < theirs.first_head + theirs.heads; ++head)
            for (auto layer = theirs.first_layer; layer < theirs.first_layer + theirs.layers; ++layer) {
              const auto* const run = pools[place].data() + theirs.offset(to[i].value, head, layer);
              whole = whole && std::all_of(run, run + theirs.run_bytes(),
                                           [&](std::byte each) { return each == mark(i, head, layer); });
            }
        CHECK(whole);
        CHECK(devices[place] == pools[place]); // nothing is left behind
      }
    }
}

TEST_CASE("equal layouts give one piece a block") {
  const auto facts = facts_of(4, 4);
  const auto layout = gpu::models::layout_of(facts, {.tensor_parallel = 2, .mesh_rank = 1}, tokens_max);
  const std::vector<block_index> from{block_index{0}, block_index{3}};
  const std::vector<block_index> to{block_index{2}, block_index{0}};
  const auto pieces = gpu::models::kv_pieces(layout, from, layout, to);
  REQUIRE(pieces.size() == 2);
  CHECK(pieces[0].bytes == layout.block_bytes());
}

TEST_CASE("ranks that share no head or no layer exchange nothing") {
  const auto facts = facts_of(4, 4);
  const auto mine = gpu::models::layout_of(facts, {.tensor_parallel = 4, .mesh_rank = 3}, tokens_max);
  CHECK(gpu::models::overlapping_places(facts, mine, cell_of(2, 1)) == std::vector<std::uint32_t>{1});
  CHECK(gpu::models::overlapping_places(facts, mine, cell_of(2, 2)) == std::vector<std::uint32_t>{1, 3});
}
