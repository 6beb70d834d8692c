#include "protocols/cluster/cluster_plan.hpp"

#include <algorithm>
#include <charconv>
#include <map>

#include "protocols/cluster/program.hpp"

namespace troupe::protocols {

namespace {

static_assert(limits::groups_max >= limits::ranks_max,
              "a cell of n ranks makes at most n groups, so the bound on ranks bounds the groups");

std::string quoted(const pool_spec& pool) {
  return "pool \"" + pool.name + '"';
}

bool is_one_rank(const pool_spec& pool) {
  return pool.cells == 1 && pool.tensor_parallel == 1 && pool.pipeline_parallel == 1;
}

/// Sizes of each pool and of all; the first check bounds the factors, so that the product cannot overflow.
result<void> validate_sizes(const cluster_spec& spec, const program& of) {
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
    if (of.row(pool.role).one_rank && !is_one_rank(pool))
      return fail(fault::config_invalid, quoted(pool) + ": role " + std::string{name(pool.role)} +
                                             " takes one cell of one rank (cells, tensor_parallel and "
                                             "pipeline_parallel are 1)");
  }
  if (ranks > limits::ranks_max)
    return fail(fault::config_invalid, "the pools make " + std::to_string(ranks) + " ranks, at most " +
                                           std::to_string(limits::ranks_max) + " are possible");
  return {};
}

result<void> validate_roles(const cluster_spec& spec, const program& of) {
  const auto valid = "; valid are: " + std::string{of.layouts};
  if (spec.pools.empty())
    return fail(fault::config_invalid, "no pool, so no rank at all" + valid);
  for (const auto& pool : spec.pools)
    if (pool.role != role_kind::stub && of.find(pool.role) == nullptr)
      return fail(fault::config_invalid, quoted(pool) + ": role " + std::string{name(pool.role)} +
                                             " is not one of program " + std::string{of.name} + valid);
  const auto stubs = static_cast<std::size_t>(std::ranges::count(spec.pools, role_kind::stub, &pool_spec::role));
  if (stubs == spec.pools.size())
    return {};
  if (stubs > 0)
    return fail(fault::config_invalid, "role stub stands beside other pools" + valid);
  return of.validate_pools(spec);
}

/// "prefill.0"; a pool that cannot have a second cell goes by its own name.
std::string cell_name(const program& of, const pool_spec& pool, std::uint32_t cell) {
  return of.row(pool.role).one_rank ? pool.name : pool.name + '.' + std::to_string(cell);
}

/// "prefill.0/s0t1"; what a cell has only one of is left out.
std::string rank_label(const program& of, const pool_spec& pool, std::uint32_t cell, std::uint32_t stage,
                       std::uint32_t mesh_rank) {
  auto label = cell_name(of, pool, cell);
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
      plan.ranks.push_back({id, pool.role, pool.name, cell_in_pool, stage, mesh_rank,
                            rank_label(*plan.of, pool, cell_in_pool, stage, mesh_rank)});
    }
  const auto add_job = [&](role_kind job) {
    auto& cell = plan.cells.emplace_back();
    cell.id = cell_id{static_cast<std::uint32_t>(plan.cells.size() - 1)};
    cell.role = job;
    cell.ranks = members;
    cell.tensor_parallel = pool.tensor_parallel;
    cell.pipeline_parallel = pool.pipeline_parallel;
    add_groups(plan, cell, cell_name(*plan.of, pool, cell_in_pool));
  };
  const auto jobs = plan.of->row(pool.role).jobs;
  if (jobs.empty())
    add_job(pool.role);
  for (const auto job : jobs)
    add_job(job);
}

bool exchange_messages(const program& of, const rank_plan& a, const rank_plan& b, rank_id front) {
  const auto meet = [&](const contact& each) {
    return (a.role == each.one && b.role == each.other) || (a.role == each.other && b.role == each.one);
  };
  return a.id == front || b.id == front || std::ranges::any_of(of.contacts, meet) ||
         (a.cell_in_pool == b.cell_in_pool && a.pool == b.pool);
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
      if (exchange_messages(*plan.of, plan.ranks[low], plan.ranks[high], front))
        plan.edges.push_back(edge_between(plan.ranks[low].id, plan.ranks[high].id));

  if (plan.of->streams == role_kind::stub)
    return;
  for (const auto cell : plan.cells_of(plan.of->streams))
    if (const auto leader = plan.cell(cell).leader(); leader != front)
      plan.token_edges.push_back(edge_between(leader, front));
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
    if (!plan.of->row(rank.role).computes)
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
  const auto found = of == nullptr ? cells.end() : std::ranges::find(cells, of->front, &cell_plan::role);
  return found == cells.end() ? ranks.front().id : found->leader();
}

bool cluster_plan::is_front(rank_id rank) const {
  return std::ranges::any_of(cells_on(rank),
                             [this](cell_id id) { return of != nullptr && cell(id).role == of->front; });
}

result<cluster_plan> make_plan(const cluster_spec& spec) {
  cluster_plan plan;
  plan.of = find_program(spec.program);
  if (plan.of == nullptr)
    return fail(fault::config_invalid, "program \"" + spec.program + "\" is not known; valid here: " + program_names());
  if (auto valid = validate_roles(spec, *plan.of); !valid)
    return tl::unexpected{valid.error()};
  if (auto valid = validate_sizes(spec, *plan.of); !valid)
    return tl::unexpected{valid.error()};

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
