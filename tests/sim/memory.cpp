#include "tests/sim/memory.hpp"

#include "gpu/models/kv_writes.hpp"
#include "protocols/serve/roles.hpp"

namespace troupe::sim {

using namespace protocols;

gpu::models::kv_layout layout_in(const sim_cluster& cluster, const cell_plan& cell, std::uint32_t place) {
  return gpu::models::layout_at(cluster.facts, cluster.spec, cell, place);
}

rank_memory make_memory(const sim_cluster& cluster, rank_id rank) {
  const auto& facts = cluster.facts;
  const auto& bounds = cluster.spec.limits;
  rank_memory memory;
  const auto make = [&](area which, std::uint64_t slots, std::uint64_t slot_bytes, std::uint64_t unit_bytes) {
    auto& made = memory.at(which);
    made.unit_bytes = unit_bytes;
    made.slot_bytes = slot_bytes;
    made.units.resize(slots * slot_bytes / unit_bytes);
    made.holders.resize(slots);
  };
  const auto side = std::uint64_t{facts.patch_pixels} * facts.merge;
  const auto row_bytes = std::uint64_t{facts.row_elements()} * sizeof(float);
  for (const auto id : cluster.plan.cells_on(rank)) {
    const auto& cell = cluster.plan.cell(id);
    if (cell.role == serve_role::front)
      make(area::staging, cluster.plan.cells_of(serve_role::encode).size() * bounds.pixel_slots,
           facts.picture_bytes_max(), side * side * 3);
    if (cell.role == serve_role::encode) {
      make(area::pixels, bounds.pixel_slots, facts.picture_bytes_max(), side * side * 3);
      make(area::tower, bounds.row_slots, facts.picture_tokens_max() * row_bytes, row_bytes);
    }
    if (cell.role != serve_role::prefill && cell.role != serve_role::decode)
      continue;
    const auto layout = layout_in(cluster, cell, *cell.place_of(rank));
    if (cell.role == serve_role::prefill)
      make(area::rows, bounds.row_slots, facts.picture_tokens_max() * row_bytes, row_bytes);
    make(cell.role == serve_role::prefill ? area::kv_prefill : area::kv_decode, layout.blocks, layout.block_bytes(),
         layout.run_bytes());
  }
  return memory;
}

} // namespace troupe::sim
