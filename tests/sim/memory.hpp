#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "fabric/transfers/transfer.hpp"
#include "gpu/models/model.hpp"
#include "protocols/ids.hpp"
#include "tests/sim/drawn_cluster.hpp"

namespace troupe::sim {

enum class area : std::uint8_t { staging, pixels, tower, rows, kv_prefill, kv_decode };
inline constexpr std::size_t areas = 6;

/// Registered memory of one rank. A unit is what one writer always writes as a whole (a patch, an embedding row, what
/// one head and layer hold of a block), and is kept as one word.
struct sim_region {
  std::uint64_t unit_bytes = 1;
  std::uint64_t slot_bytes = 0;
  std::vector<std::uint64_t> units;
  std::vector<protocols::room_id> holders; ///< by slot: for whom it was granted last

  std::size_t slot_units() const noexcept { return slot_bytes / unit_bytes; }
  std::span<std::uint64_t> slot(protocols::slot_index which) {
    return std::span{units}.subspan(which.value * slot_units(), slot_units());
  }
};

/// The memory of one process. Memory that a peer has attached outlives its process.
struct rank_memory {
  std::array<sim_region, areas> regions;
  sim_region& at(area which) { return regions[static_cast<std::size_t>(which)]; }
};

rank_memory make_memory(const sim_cluster& cluster, protocols::rank_id rank);

/// The pool of the rank at `place` of `cell`, as the product lays it out.
gpu::models::kv_layout layout_in(const sim_cluster& cluster, const protocols::cell_plan& cell, std::uint32_t place);

} // namespace troupe::sim
