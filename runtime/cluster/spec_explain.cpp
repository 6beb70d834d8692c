#include "runtime/cluster/spec_explain.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "protocols/cluster/program.hpp"
#include "runtime/cluster/spec_keys.hpp"

namespace troupe::cluster {
namespace {

using protocols::bulk_lane;
using protocols::cluster_plan;
using protocols::cluster_spec;
using protocols::control_lane;

std::string shown(const spec_value& value) {
  if (const auto* text = std::get_if<std::string>(&value))
    return fmt::format("\"{}\"", *text);
  if (const auto* whole = std::get_if<std::uint64_t>(&value))
    return std::to_string(*whole);
  return std::get<bool>(value) ? "true" : "false";
}

std::string shown(const protocols::device_place& device) {
  return device.in_line ? fmt::format("{}, place {} in line", device.kind, device.number) : device.name_on(0);
}

template <class Owner>
void explain_keys(std::string& out, const loaded_spec& loaded, const Owner& owner,
                  const std::vector<spec_key<Owner>>& keys, const std::string& section) {
  for (const auto& key : keys) {
    if (!is_of(key, loaded.spec.program))
      continue;
    const auto path = path_of(section, key.name);
    const auto written = loaded.written.find(path);
    const auto origin = written == loaded.written.end()
                            ? std::string{"default"}
                            : fmt::format("{}:{}", loaded.file.filename().string(), written->second.line);
    out += fmt::format("{:<34} {:<24} {}\n", path, shown(key.get(owner)), origin);
  }
}

// Every rank runs on this host, so `auto` is the host's own lane.
std::string control_lane_of(const cluster_spec& spec) {
  switch (spec.lanes.control) {
  case control_lane::automatic:
    return "shared memory (auto: one host)";
  case control_lane::shared_memory:
    return "shared memory (forced)";
  case control_lane::tcp:
    return fmt::format("tcp on {} (forced)", spec.lanes.interface);
  }
  return {};
}

std::string bulk_lane_of(const cluster_spec& spec) {
  switch (spec.lanes.bulk) {
  case bulk_lane::automatic:
    return "shared memory (auto: one host)";
  case bulk_lane::shared_memory:
    return "shared memory (forced)";
  case bulk_lane::fabric:
    return fmt::format("libfabric {} on {} (forced)", spec.lanes.fabric_provider, spec.lanes.interface);
  }
  return {};
}

/// "1 rank", "6 ranks".
std::string counted(std::size_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string members_of(const cluster_plan& plan, const protocols::group_plan& group) {
  std::string text;
  for (const auto rank : group.members)
    text += fmt::format("{}{}:{}", text.empty() ? "" : ", ", rank.value, plan.rank(rank).label);
  return text;
}

} // namespace

std::string explain_values(const loaded_spec& loaded) {
  std::string out;
  for (const auto& section : spec_sections())
    if (is_of(section, loaded.spec))
      explain_keys(out, loaded, loaded.spec, section.keys, std::string{section.name});
  for (const auto& pool : loaded.spec.pools)
    explain_keys(out, loaded, pool, pool_keys(), "pools." + pool.name);
  return out;
}

std::string explain_plan(const cluster_spec& spec, const cluster_plan& plan) {
  std::string out =
      fmt::format("{}: {} in {}, {} on {}, {}\n", spec.name, counted(plan.ranks.size(), "rank"),
                  counted(spec.pools.size(), "pool"), spec.program, spec.device, protocols::name(spec.model_dtype));
  for (const auto& pool : spec.pools) {
    out += fmt::format("  {} ({}): {} of {} x {}\n", pool.name, protocols::name(pool.role), counted(pool.cells, "cell"),
                       counted(pool.pipeline_parallel, "stage"), counted(pool.tensor_parallel, "rank"));
    for (const auto& rank : plan.ranks)
      if (rank.pool == pool.name)
        out += fmt::format("    rank {:<4} {:<24} {}\n", rank.id.value, rank.label, shown(rank.device));
  }
  if (!plan.groups.empty())
    out += "groups, in the order in which they are made; the first member leads\n";
  for (const auto& group : plan.groups)
    out += fmt::format("  {:<4} {:<22} {}\n", group.id.value, group.name, members_of(plan, group));

  out += "lanes\n";
  const bool alone = plan.ranks.size() == 1;
  out += fmt::format("  typed messages, tokens   {}\n", alone ? "within the rank" : control_lane_of(spec));
  if (!plan.groups.empty())
    out += fmt::format("  collectives              {}\n", control_lane_of(spec));
  const auto bulk = alone ? std::string{"within the rank"} : bulk_lane_of(spec);
  const bool on_gpus = std::ranges::any_of(plan.ranks, [](const auto& rank) { return rank.device.kind == "cuda"; });
  const auto between_gpus = spec.lanes.bulk == bulk_lane::fabric ? bulk + ", by way of the host's memory"
                                                                 : std::string{"from GPU to GPU (CUDA IPC)"};
  for (const auto& region : plan.of->regions)
    if (!plan.cells_of(region.owner.role).empty())
      out += fmt::format("  {:<24} {}\n", region.words, region.on_device && on_gpus && !alone ? between_gpus : bulk);
  return out;
}

std::string explain_dot(const cluster_spec& spec, const cluster_plan& plan) {
  std::string out =
      fmt::format("graph \"{}\" {{\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n", spec.name);
  // A rank of role `all` is a cell of each job and stands in one box only.
  std::set<protocols::rank_id> drawn;
  for (const auto& cell : plan.cells) {
    if (std::ranges::all_of(cell.ranks, [&](auto rank) { return drawn.contains(rank); }))
      continue;
    const auto& leader = plan.rank(cell.leader());
    out += fmt::format("  subgraph cluster_{} {{\n    label=\"{}.{} ({})\";\n", cell.id.value, leader.pool,
                       leader.cell_in_pool, protocols::name(leader.role));
    for (const auto rank : cell.ranks)
      if (drawn.insert(rank).second)
        out += fmt::format("    r{} [label=\"{}\\n{}\"];\n", rank.value, rank.value, plan.rank(rank).label);
    out += "  }\n";
  }
  for (const auto& edge : plan.edges)
    out += fmt::format("  r{} -- r{};\n", edge.connects.value, edge.accepts.value);
  for (const auto& edge : plan.token_edges)
    out += fmt::format("  r{} -- r{} [style=bold, label=\"tokens\"];\n", edge.connects.value, edge.accepts.value);
  return out + "}\n";
}

} // namespace troupe::cluster
