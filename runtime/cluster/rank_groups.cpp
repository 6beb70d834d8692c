#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "gpu/backend.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/log.hpp"
#include "runtime/cluster/rank_runtime.hpp"

/// The groups of a rank: their lanes, and collectives of its device.
namespace troupe::cluster {

using namespace protocols;

result<actors::cell_groups> rank_runtime::join(const cell_plan& cell, const std::function<result<void>()>& load,
                                               time_point deadline) {
  actors::cell_groups joined;
  const auto place = *cell.place_of(context_.self);
  const auto make_group = [&](group_id id) -> result<std::shared_ptr<gpu::group_lanes>> {
    auto lanes = std::make_shared<gpu::group_lanes>();
    lanes->plan = context_.plan.group(id);
    for (const auto member : lanes->plan.members) {
      if (member == context_.self) {
        lanes->self = static_cast<std::uint32_t>(lanes->to.size());
        lanes->to.push_back(nullptr);
        continue;
      }
      auto lane = take_lane({member, channel_kind::group, id}, deadline);
      if (!lane)
        return tl::unexpected<failure>{lane.error()};
      lanes->to.push_back(*std::move(lane));
    }
    return lanes;
  };
  const auto wrap = [&](const std::shared_ptr<gpu::group_lanes>& lanes) -> result<std::shared_ptr<gpu::group>> {
    auto group =
        std::make_shared<gpu::group>(lanes->plan, lanes->self, gpu::make_host_backend(lanes), context_.step_max());
    if (context_.on_device()) {
      base::flight_span joining{record_of(start_part::collectives)};
      if (auto given = joining.ends(give_device(*group)); !given)
        return tl::unexpected<failure>{given.error()};
    }
    return group;
  };
  const auto settle = [&](gpu::group& group) -> result<void> {
    if (!context_.on_device())
      return {};
    base::flight_span joining{record_of(start_part::collectives)};
    if (auto settled = joining.ends(group.settle(deadline)); !settled)
      return fail(settled.error().code, "group " + group.plan().name + ": " + settled.error().what);
    return {};
  };
  if (cell.group) {
    auto lanes = make_group(*cell.group);
    if (!lanes)
      return tl::unexpected<failure>{lanes.error()};
    joined.plans.emplace(*lanes);
    auto whole = wrap(*lanes);
    if (!whole)
      return tl::unexpected<failure>{whole.error()};
    joined.cell = *std::move(whole);
    const auto& mesh = cell.meshes[cell.stage_of(place)];
    if (mesh == cell.group) {
      joined.mesh = joined.cell;
    } else if (mesh) {
      if (auto settled = settle(*joined.cell); !settled) // in spec order on every rank (B26)
        return tl::unexpected<failure>{settled.error()};
      auto mesh_lanes = make_group(*mesh);
      if (!mesh_lanes)
        return tl::unexpected<failure>{mesh_lanes.error()};
      auto stage = wrap(*mesh_lanes);
      if (!stage)
        return tl::unexpected<failure>{stage.error()};
      joined.mesh = *std::move(stage);
    }
  }
  if (auto given = load(); !given) // while the newest group is joined
    return tl::unexpected<failure>{given.error()};
  if (const auto& newest = joined.mesh ? joined.mesh : joined.cell)
    if (auto settled = settle(*newest); !settled)
      return tl::unexpected<failure>{settled.error()};
  return joined;
}

std::set<std::string> rank_runtime::devices_among(std::span<const rank_id> ranks) const {
  std::set<std::string> devices;
  for (const auto rank : ranks)
    devices.insert(context_.plan.rank(rank).device.name_on(device_count_));
  return devices;
}

/// A driver gives a GPU's processes turns, and a sum needs those of all members at once.
void rank_runtime::warn_of_turns(const gpu::group& group) const {
  const auto& members = group.plan().members;
  const auto devices = devices_among(members);
  std::vector<std::string> others;
  for (const auto& rank : context_.plan.ranks)
    if (devices.contains(rank.device.name_on(device_count_)) && std::ranges::find(members, rank.id) == members.end())
      others.push_back(rank.label);
  if (!others.empty())
    base::log_warning("group {}: its GPUs are also those of {}; while both are at work, its sums wait for turns",
                      group.plan().name, fmt::join(others, ", "));
}

/// Collectives on the GPUs' own links, where every member has a GPU; by way of the host where they share one.
result<void> rank_runtime::give_device(gpu::group& group) {
  const auto devices = devices_of(group.plan().members);
  if (devices < group.size()) {
    auto run = gpu::open_operations(device_, context_.spec.limits.threads);
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
  auto joined = gpu::join_collectives(device_, {.self = group.self(), .size = group.size(), .exchange = tell_all});
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
