#pragma once

#include <map>
#include <span>
#include <vector>

#include "fabric/transfers/transfer.hpp"
#include "gpu/models/model.hpp"
#include "protocols/cluster/cluster_plan.hpp"

/// The re-layout of keys and values between cells of different tensor- and pipeline-parallel degree: which bytes of a
/// prefill rank's pool go where in a decode rank's pool.
namespace troupe::gpu::models {

/// The share of the model that the rank at `place` of `cell` holds.
shard shard_at(const protocols::cell_plan& cell, std::uint32_t place) noexcept;

/// Errors: an element that nothing computes with breaks an invariant.
element_kind element_of(protocols::element_type type) noexcept;

/// The pool of the rank at `place` of `cell`.
kv_layout layout_at(const model_facts& facts, const protocols::cluster_spec& spec, const protocols::cell_plan& cell,
                    std::uint32_t place) noexcept;

/// Places of `others` that hold a head and a layer which `mine` holds too, ascending.
std::vector<std::uint32_t> overlapping_places(const model_facts& facts, const kv_layout& mine,
                                              const protocols::cell_plan& others);

/// The same for every cell of that role.
std::map<protocols::cell_id, std::vector<std::uint32_t>> overlapping_cells(const model_facts& facts,
                                                                           const kv_layout& mine,
                                                                           const protocols::cluster_plan& plan,
                                                                           protocols::role_kind others);

/// Pieces from `source` blocks to `target` blocks, equal in number, over the heads and layers that both hold. Runs that
/// continue each other on both sides are one piece, so equal layouts give one piece a block.
std::vector<fabric::write_piece> kv_pieces(const kv_layout& source,
                                           std::span<const protocols::block_index> source_blocks,
                                           const kv_layout& target,
                                           std::span<const protocols::block_index> target_blocks);

/// Where in `mine` lies what the holder of `theirs` writes into these blocks: the targets of its `kv_pieces`, as both
/// offsets.
std::vector<fabric::write_piece> kv_arrival(const kv_layout& theirs, const kv_layout& mine,
                                            std::span<const protocols::block_index> blocks);

} // namespace troupe::gpu::models
