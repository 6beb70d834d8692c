#include "runtime/cluster/rank_groups.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "gpu/backend.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/log.hpp"

namespace troupe::cluster {

using namespace protocols;

result<std::shared_ptr<gpu::group_lanes>> rank_groups::take_lanes(group_id id, time_point deadline) {
  auto lanes = std::make_shared<gpu::group_lanes>();
  lanes->plan = rank_.plan.group(id);
  for (const auto member : lanes->plan.members) {
    if (member == rank_.self) {
      lanes->self = static_cast<std::uint32_t>(lanes->to.size());
      lanes->to.push_back(nullptr);
      continue;
    }
    auto lane = edges_.take_lane({member, channel_kind::group, id}, deadline);
    if (!lane)
      return tl::unexpected<failure>{lane.error()};
    lanes->to.push_back(*std::move(lane));
  }
  return lanes;
}

result<std::shared_ptr<gpu::group>> rank_groups::make_group(const std::shared_ptr<gpu::group_lanes>& lanes) {
  auto group = std::make_shared<gpu::group>(lanes->plan, lanes->self, gpu::make_host_backend(lanes), rank_.step_max());
  if (rank_.on_device()) {
    base::flight_span joining{record_of(start_part::collectives)};
    if (auto given = joining.ends(give_device(*group)); !given)
      return tl::unexpected<failure>{given.error()};
  }
  return group;
}

result<void> rank_groups::settle(gpu::group& group, time_point deadline) {
  if (!rank_.on_device())
    return {};
  base::flight_span joining{record_of(start_part::collectives)};
  if (auto settled = joining.ends(group.settle(deadline)); !settled)
    return fail(settled.error().code, "group " + group.plan().name + ": " + settled.error().what);
  return {};
}

result<actors::cell_groups> rank_groups::join(const cell_plan& cell, const std::function<result<void>()>& load,
                                              time_point deadline) {
  actors::cell_groups joined;
  if (cell.group) {
    auto lanes = take_lanes(*cell.group, deadline);
    if (!lanes)
      return tl::unexpected<failure>{lanes.error()};
    joined.plans.emplace(*lanes);
    auto whole = make_group(*lanes);
    if (!whole)
      return tl::unexpected<failure>{whole.error()};
    joined.cell = *std::move(whole);
    const auto& mesh = cell.meshes[cell.stage_of(*cell.place_of(rank_.self))];
    if (mesh == cell.group) {
      joined.mesh = joined.cell;
    } else if (mesh) {
      if (auto settled = settle(*joined.cell, deadline); !settled) // in spec order on every rank (B26)
        return tl::unexpected<failure>{settled.error()};
      auto mesh_lanes = take_lanes(*mesh, deadline);
      if (!mesh_lanes)
        return tl::unexpected<failure>{mesh_lanes.error()};
      auto stage = make_group(*mesh_lanes);
      if (!stage)
        return tl::unexpected<failure>{stage.error()};
      joined.mesh = *std::move(stage);
    }
  }
  if (auto given = load(); !given) // while the newest group is joined
    return tl::unexpected<failure>{given.error()};
  if (const auto& newest = joined.mesh ? joined.mesh : joined.cell)
    if (auto settled = settle(*newest, deadline); !settled)
      return tl::unexpected<failure>{settled.error()};
  return joined;
}

/// A driver gives a GPU's processes turns, and a sum needs those of all members at once.
void rank_groups::warn_of_turns(const gpu::group& group) const {
  const auto& members = group.plan().members;
  const auto devices = device_.among(members);
  std::vector<std::string> others;
  for (const auto& rank : rank_.plan.ranks)
    if (devices.contains(device_.of(rank)) && std::ranges::find(members, rank.id) == members.end())
      others.push_back(rank.label);
  if (!others.empty())
    base::log_warning("group {}: its GPUs are also those of {}; while both are at work, its sums wait for turns",
                      group.plan().name, fmt::join(others, ", "));
}

/// Collectives on the GPUs' own links, where every member has a GPU; by way of the host where they share one.
result<void> rank_groups::give_device(gpu::group& group) {
  const auto devices = device_.among(group.plan().members).size();
  if (devices < group.size()) {
    auto run = gpu::open_operations(device_.name(), rank_.spec.limits.threads);
    if (!run)
      return tl::unexpected<failure>{run.error()};
    base::log_info("group {}: {} ranks on {} GPUs, so its sums go by way of the host", group.plan().name, group.size(),
                   devices);
    group.give_device(gpu::stage_collectives(*std::move(run), group.backend()));
    return {};
  }
  if (auto begun = group.begin(call_id{}, "group", gpu::join_exchanges * group.size()); !begun)
    return begun;
  const auto tell_all = [&](std::span<const std::byte> mine, std::span<std::byte> all) -> result<void> {
    for (std::uint32_t member = 0; member < group.size(); ++member) {
      const auto piece = all.subspan(member * mine.size(), mine.size());
      if (member == group.self())
        std::ranges::copy(mine, piece.begin());
      if (auto told = group.broadcast(piece, member); !told)
        return told;
    }
    return {};
  };
  auto joined =
      gpu::join_collectives(device_.name(), {.self = group.self(), .size = group.size(), .exchange = tell_all});
  if (!joined)
    return fail(joined.error().code, "group " + group.plan().name + ": " + joined.error().what);
  if (group.self() == 0) {
    base::log_info("group {}: sums by {}", group.plan().name, (*joined)->form());
    warn_of_turns(group);
  }
  group.give_device(*std::move(joined));
  return group.end();
}

} // namespace troupe::cluster
