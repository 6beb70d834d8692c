#pragma once

#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/fault.hpp"
#include "protocols/ids.hpp"

/// The spec, expanded: which rank does what, who forms which group, which pairs need an edge.
/// Every rank expands the same spec and gets the same plan, in the same order (B1); the parity handshake compares it.
namespace troupe::protocols {

/// What a rank computes on. How many GPUs a machine has is known to its ranks alone, so a rank that may take any of
/// them has a place in the line of all that may.
struct device_place {
  std::string kind = "cpu"; ///< or "cuda"
  std::uint32_t number = 0; ///< of the GPU, or the place in line
  bool in_line = false;

  /// "cuda:1" on a machine with `count` of this kind; "cpu".
  std::string name_on(unsigned count) const;
  bool operator==(const device_place&) const = default;
};

struct rank_plan {
  rank_id id;
  role_kind role = role_kind::stub;
  std::string pool;
  std::uint32_t cell_in_pool = 0;
  std::uint32_t stage = 0;     ///< pipeline stage within the cell
  std::uint32_t mesh_rank = 0; ///< tensor-parallel rank within the stage
  std::string label;           ///< "prefill.0/s0t1": how logs and errors call it
  device_place device{};

  bool operator==(const rank_plan&) const = default;
};

/// Ranks that live and die together and do one job. A rank whose role has several jobs is a cell of each.
struct cell_plan {
  cell_id id;
  role_kind role = role_kind::stub; ///< the job, never a role that stands for several
  std::vector<rank_id> ranks;       ///< stage by stage: ranks[stage * tensor_parallel + mesh_rank]
  std::uint32_t tensor_parallel = 1;
  std::uint32_t pipeline_parallel = 1;
  std::optional<group_id> group;               ///< over all ranks; absent for a cell of one rank
  std::vector<std::optional<group_id>> meshes; ///< of each stage; absent where tensor_parallel is 1

  rank_id leader() const noexcept { return ranks.front(); }
  /// Leader of the last stage: where logits are, and so where tokens are chosen.
  rank_id last_leader() const noexcept { return ranks[(pipeline_parallel - 1) * tensor_parallel]; }
  std::uint32_t stage_of(std::uint32_t place) const noexcept { return place / tensor_parallel; }
  std::uint32_t mesh_rank_of(std::uint32_t place) const noexcept { return place % tensor_parallel; }
  std::optional<std::uint32_t> place_of(rank_id rank) const noexcept;

  bool operator==(const cell_plan&) const = default;
};

/// An ordered list of ranks with collectives and a plan channel; members[0] leads (B6).
struct group_plan {
  group_id id;
  std::string name; ///< "prefill.0", "prefill.0.stage1"
  std::vector<rank_id> members;

  bool operator==(const group_plan&) const = default;
};

/// A pair of ranks that exchange typed messages; the first connects, the second accepts.
struct edge_plan {
  rank_id connects;
  rank_id accepts;

  bool operator==(const edge_plan&) const = default;
};

struct program;

struct cluster_plan {
  const program* of = nullptr; ///< whose roles these are; set by `make_plan`
  std::vector<rank_plan> ranks;
  std::vector<cell_plan> cells;
  std::vector<group_plan> groups;
  std::vector<edge_plan> edges;       ///< control channels, sorted; includes the pairs that carry tokens
  std::vector<edge_plan> token_edges; ///< a leader's executor to the front, beside mailboxes

  const rank_plan& rank(rank_id id) const { return ranks.at(id.value); }
  const cell_plan& cell(cell_id id) const { return cells.at(id.value); }
  const group_plan& group(group_id id) const { return groups.at(id.value); }
  /// Cells of `role`, in plan order.
  std::vector<cell_id> cells_of(role_kind role) const;
  /// The jobs that `rank` takes part in, in plan order (several cells for a rank whose role has several jobs).
  std::vector<cell_id> cells_on(rank_id rank) const;
  rank_id front() const;             ///< leader of the front cell; the first stub where there is none
  bool is_front(rank_id rank) const; ///< of a front cell; no stub is

  bool operator==(const cluster_plan&) const = default;
};

/// Expands pools in the order written; ids are stable.
/// Edges: the front with every rank; ranks of roles in contact (program.hpp); ranks of one cell with each other; stubs
/// with the first stub only.
/// Errors: config_invalid with what would be valid (a program that is not known, pools that make no cluster of it, more
/// than limits::ranks_max).
result<cluster_plan> make_plan(const cluster_spec& spec);

/// One line a group, in order: what the parity handshake compares.
std::string describe_groups(const cluster_plan& plan);

} // namespace troupe::protocols
