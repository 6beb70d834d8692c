#include "protocols/cluster/cluster_plan.hpp"

#include <algorithm>
#include <charconv>
#include <map>

namespace troupe::protocols {

namespace {

static_assert(limits::groups_max >= limits::ranks_max,
              "a cell of n ranks makes at most n groups, so the bound on ranks bounds the groups");

std::string quoted(const pool_spec& pool) {
  return "pool \"" + pool.name + '"';
}

std::size_t pools_of(const cluster_spec& spec, role_kind role) {
  return static_cast<std::size_t>(std::ranges::count(spec.pools, role, &pool_spec::role));
}

bool is_one_rank(const pool_spec& pool) {
  return pool.cells == 1 && pool.tensor_parallel == 1 && pool.pipeline_parallel == 1;
}

/// Sizes of each pool and of all; the first check bounds the factors, so that the product cannot overflow.
result<void> validate_sizes(const cluster_spec& spec) {
  std::uint64_t ranks = 0;
  for (const auto& pool : spec.pools) {
    for (const auto factor : {pool.cells, pool.tensor_parallel, pool.pipeline_parallel})
      if (factor < 1 || factor > limits::ranks_max)
        return fail(fault::config_invalid, quoted(pool) +
                                               ": cells, tensor_parallel and pipeline_parallel are from 1 to " +
                                               std::to_string(limits::ranks_max));
    ranks += std::uint64_t{pool.cells} * pool.tensor_parallel * pool.pipeline_parallel;
    if (std::ranges::count(spec.pools, pool.name, &pool_spec::name) > 1)
      return fail(fault::config_invalid, quoted(pool) + " stands twice: names of pools are unique");
    const bool single = pool.role == role_kind::front || pool.role == role_kind::all;
    if (single && !is_one_rank(pool))
      return fail(fault::config_invalid, quoted(pool) + ": role " + std::string{name(pool.role)} +
                                             " takes one cell of one rank (cells, tensor_parallel and "
                                             "pipeline_parallel are 1)");
  }
  if (ranks > limits::ranks_max)
    return fail(fault::config_invalid, "the pools make " + std::to_string(ranks) + " ranks, at most " +
                                           std::to_string(limits::ranks_max) + " are possible");
  return {};
}

result<void> validate_roles(const cluster_spec& spec) {
  constexpr auto valid = "; valid are: one front pool with prefill and decode pools (and encode pools for pictures), "
                         "one pool of role all, or pools of role stub";
  const auto alone = [&](role_kind role) {
    return fail(fault::config_invalid, "role " + std::string{name(role)} + " stands beside other pools" + valid);
  };
  if (spec.pools.empty())
    return fail(fault::config_invalid, std::string{"no pool, so no rank at all"} + valid);

  const auto stubs = pools_of(spec, role_kind::stub);
  if (stubs > 0)
    return stubs == spec.pools.size() ? result<void>{} : alone(role_kind::stub);
  if (pools_of(spec, role_kind::all) > 0)
    return spec.pools.size() == 1 ? result<void>{} : alone(role_kind::all);

  if (pools_of(spec, role_kind::front) > 1)
    return fail(fault::config_invalid, std::string{"two pools of role front"} + valid);
  for (const auto role : {role_kind::front, role_kind::prefill, role_kind::decode})
    if (pools_of(spec, role) == 0)
      return fail(fault::config_invalid, "no pool of role " + std::string{name(role)} + valid);
  return {};
}

/// "prefill.0"; a pool that cannot have a second cell goes by its own name.
std::string cell_name(const pool_spec& pool, std::uint32_t cell) {
  const bool single = pool.role == role_kind::front || pool.role == role_kind::all;
  return single ? pool.name : pool.name + '.' + std::to_string(cell);
}

/// "prefill.0/s0t1"; what a cell has only one of is left out.
std::string rank_label(const pool_spec& pool, std::uint32_t cell, std::uint32_t stage, std::uint32_t mesh_rank) {
  auto label = cell_name(pool, cell);
  if (pool.ranks_per_cell() > 1)
    label += '/';
  if (pool.pipeline_parallel > 1)
    label += 's' + std::to_string(stage);
  if (pool.tensor_parallel > 1)
    label += 't' + std::to_string(mesh_rank);
  return label;
}

group_id add_group(cluster_plan& plan, std::string group_name, std::vector<rank_id> members) {
  const group_id id{static_cast<std::uint32_t>(plan.groups.size())};
  plan.groups.push_back({id, std::move(group_name), std::move(members)});
  return id;
}

/// The cell's own group first, then the mesh of each stage; without a pipeline the two are one (B3).
void add_groups(cluster_plan& plan, cell_plan& cell, const std::string& of) {
  cell.meshes.resize(cell.pipeline_parallel);
  if (cell.ranks.size() == 1)
    return;
  cell.group = add_group(plan, of, cell.ranks);
  if (cell.tensor_parallel == 1)
    return;
  if (cell.pipeline_parallel == 1) {
    cell.meshes.front() = cell.group;
    return;
  }
  for (std::uint32_t stage = 0; stage < cell.pipeline_parallel; ++stage) {
    const auto first = cell.ranks.begin() + stage * cell.tensor_parallel;
    cell.meshes[stage] = add_group(plan, of + ".stage" + std::to_string(stage), {first, first + cell.tensor_parallel});
  }
}

void add_cell(cluster_plan& plan, const pool_spec& pool, std::uint32_t cell_in_pool) {
  std::vector<rank_id> members;
  for (std::uint32_t stage = 0; stage < pool.pipeline_parallel; ++stage)
    for (std::uint32_t mesh_rank = 0; mesh_rank < pool.tensor_parallel; ++mesh_rank) {
      const rank_id id{static_cast<std::uint32_t>(plan.ranks.size())};
      members.push_back(id);
      plan.ranks.push_back(
          {id, pool.role, pool.name, cell_in_pool, stage, mesh_rank, rank_label(pool, cell_in_pool, stage, mesh_rank)});
    }
  const auto add_job = [&](role_kind job) {
    auto& cell = plan.cells.emplace_back();
    cell.id = cell_id{static_cast<std::uint32_t>(plan.cells.size() - 1)};
    cell.role = job;
    cell.ranks = members;
    cell.tensor_parallel = pool.tensor_parallel;
    cell.pipeline_parallel = pool.pipeline_parallel;
    add_groups(plan, cell, cell_name(pool, cell_in_pool));
  };
  if (pool.role != role_kind::all) {
    add_job(pool.role);
    return;
  }
  for (const auto job : {role_kind::front, role_kind::encode, role_kind::prefill, role_kind::decode})
    add_job(job);
}

bool exchange_messages(const rank_plan& a, const rank_plan& b, rank_id front) {
  const auto roles_are = [&](role_kind one, role_kind other) {
    return (a.role == one && b.role == other) || (a.role == other && b.role == one);
  };
  return a.id == front || b.id == front || roles_are(role_kind::encode, role_kind::prefill) ||
         roles_are(role_kind::prefill, role_kind::decode) || (a.cell_in_pool == b.cell_in_pool && a.pool == b.pool);
}

/// The lower id connects.
edge_plan edge_between(rank_id a, rank_id b) {
  return {std::min(a, b), std::max(a, b)};
}

/// There is no group of all ranks, and none that holds the front: it reaches a leader by an edge of the two alone (B4,
/// B5). A rank's groups are those of its one cell, whose executor drives them in one thread (B21, B24).
void add_edges(cluster_plan& plan) {
  const auto front = plan.front();
  for (std::size_t low = 0; low < plan.ranks.size(); ++low)
    for (std::size_t high = low + 1; high < plan.ranks.size(); ++high)
      if (exchange_messages(plan.ranks[low], plan.ranks[high], front))
        plan.edges.push_back(edge_between(plan.ranks[low].id, plan.ranks[high].id));

  for (const auto decode : plan.cells_of(role_kind::decode))
    if (const auto leader = plan.cell(decode).leader(); leader != front)
      plan.token_edges.push_back(edge_between(leader, front));
}

bool computes(role_kind role) {
  return role != role_kind::front && role != role_kind::stub;
}

/// "cpu"; "cuda", whose ranks stand in line; "cuda:2", whose ranks count on from there.
result<device_place> read_device(const std::string& text) {
  device_place place{.kind = text.substr(0, text.find(':')), .number = 0, .in_line = false};
  const bool numbered = place.kind.size() < text.size();
  place.in_line = place.kind == "cuda" && !numbered;
  if (numbered) {
    const char* const end = text.data() + text.size();
    const auto [read, error] = std::from_chars(text.data() + place.kind.size() + 1, end, place.number);
    if (error != std::errc{} || read != end)
      place.kind.clear();
  }
  if (place.kind != "cuda" && (place.kind != "cpu" || numbered))
    return fail(fault::config_invalid, "device \"" + text + "\"; valid here: cpu, cuda, cuda:0, cuda:1 and so on");
  return place;
}

/// In the order of ranks, so that those of a mesh get GPUs of their own as long as there are enough.
result<void> place_on_devices(cluster_plan& plan, const cluster_spec& spec) {
  std::map<std::string, std::uint32_t> taken; // of the line, of the cluster's numbers, of each pool's own: how many
  std::optional<std::string> kind;
  for (auto& rank : plan.ranks) {
    if (!computes(rank.role))
      continue;
    const auto& own = std::ranges::find(spec.pools, rank.pool, &pool_spec::name)->device;
    const bool as_cluster = own == "cluster";
    auto place = read_device(as_cluster ? spec.device : own);
    if (!place)
      return tl::unexpected{place.error()};
    if (kind && *kind != place->kind)
      return fail(fault::config_invalid, "pool \"" + rank.pool + "\" computes on " + place->kind + ", others on " +
                                             *kind +
                                             "; valid is one kind for all, for they write into each other's memory");
    kind = place->kind;
    if (place->kind != "cpu")
      place->number += taken[place->in_line ? "in line" : as_cluster ? "" : "pool " + rank.pool]++;
    rank.device = *std::move(place);
  }
  return {};
}

} // namespace

std::string device_place::name_on(unsigned count) const {
  if (kind == "cpu")
    return kind;
  return kind + ':' + std::to_string(in_line && count > 0 ? number % count : number);
}

std::optional<std::uint32_t> cell_plan::place_of(rank_id rank) const noexcept {
  const auto found = std::ranges::find(ranks, rank);
  if (found == ranks.end())
    return std::nullopt;
  return static_cast<std::uint32_t>(found - ranks.begin());
}

std::vector<cell_id> cluster_plan::cells_of(role_kind role) const {
  std::vector<cell_id> found;
  for (const auto& cell : cells)
    if (cell.role == role)
      found.push_back(cell.id);
  return found;
}

std::vector<cell_id> cluster_plan::cells_on(rank_id rank) const {
  std::vector<cell_id> found;
  for (const auto& cell : cells)
    if (cell.place_of(rank))
      found.push_back(cell.id);
  return found;
}

rank_id cluster_plan::front() const {
  const auto found = std::ranges::find(cells, role_kind::front, &cell_plan::role);
  return found == cells.end() ? ranks.front().id : found->leader();
}

result<cluster_plan> make_plan(const cluster_spec& spec) {
  if (auto judged = validate_roles(spec); !judged)
    return tl::unexpected{judged.error()};
  if (auto judged = validate_sizes(spec); !judged)
    return tl::unexpected{judged.error()};

  cluster_plan plan;
  for (const auto& pool : spec.pools)
    for (std::uint32_t cell = 0; cell < pool.cells; ++cell)
      add_cell(plan, pool, cell);
  add_edges(plan);
  if (auto placed = place_on_devices(plan, spec); !placed)
    return tl::unexpected{placed.error()};
  return plan;
}

std::string describe_groups(const cluster_plan& plan) {
  std::string text;
  for (const auto& group : plan.groups) {
    text += group.name + ':';
    for (const auto member : group.members)
      text += ' ' + std::to_string(member.value);
    text += '\n';
  }
  return text;
}

} // namespace troupe::protocols
