#include <set>

#include "tests/gpu/model_support.hpp"

using namespace troupe;
using namespace troupe::tests;

TEST_CASE("a pool is tiled by its runs, and what a block's head holds over all layers is one run") {
  const auto facts = take(models::read_facts(reader_folder));
  for (const std::uint32_t mesh : {1U, 2U, 4U})
    for (const std::uint32_t stages : {1U, 3U}) {
      for (std::uint32_t stage = 0; stage < stages; ++stage) {
        const models::kv_layout layout = models::layout_of(facts, {mesh, mesh - 1, stages, stage}, 40);
        CHECK(layout.blocks == 3);
        CHECK(layout.heads == 4 / mesh);
        CHECK(layout.first_head == 4 - layout.heads);
        CHECK(layout.run_bytes() == 2 * 16 * 32 * sizeof(float));
        std::set<std::uint64_t> offsets;
        for (std::uint32_t block = 0; block < layout.blocks; ++block)
          for (std::uint32_t head = layout.first_head; head < layout.first_head + layout.heads; ++head)
            for (std::uint32_t i = 0; i < layout.layers; ++i) {
              const std::uint64_t offset = layout.offset(block, head, layout.first_layer + i);
              CHECK(offset == layout.offset(block, head, layout.first_layer) + i * layout.run_bytes());
              CHECK(offset % layout.run_bytes() == 0);
              CHECK(offset + layout.run_bytes() <= layout.bytes());
              offsets.insert(offset);
            }
        CHECK(offsets.size() == layout.bytes() / layout.run_bytes());
      }
    }
}

TEST_CASE("a pool of another shard or of another size is refused") {
  const auto reader = take(models::open_folder(reader_folder));
  const models::shard part{.tensor_parallel = 2, .mesh_rank = 1};
  const models::kv_layout layout = models::layout_of(reader->facts(), part, 64);
  std::vector<std::byte> pool(layout.bytes());
  CHECK(reader->load_text(part, layout, pool));
  CHECK_FALSE(reader->load_text(part, layout, std::span{pool}.first(pool.size() - 1)));
  const auto other = reader->load_text({.tensor_parallel = 2, .mesh_rank = 0}, layout, pool);
  REQUIRE_FALSE(other);
  CHECK(other.error().code == protocols::fault::invalid_request);
  const auto cut = reader->load_text({.tensor_parallel = 3}, layout, pool);
  REQUIRE_FALSE(cut);
  CHECK(cut.error().code == protocols::fault::config_invalid);
}
