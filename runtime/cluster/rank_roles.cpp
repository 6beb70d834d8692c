#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "actors/executor_actor.hpp"
#include "actors/serve/decode_actor.hpp"
#include "actors/serve/encode_actor.hpp"
#include "actors/serve/front_actor.hpp"
#include "actors/serve/prefill_actor.hpp"
#include "gpu/backend.hpp"
#include "gpu/models/kv_writes.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/log.hpp"
#include "runtime/cluster/rank_runtime.hpp"

/// The roles of a rank: its shards of the model, an executor for each cell, the actors.
namespace troupe::cluster {

using namespace protocols;

result<void> rank_runtime::load_roles(time_point deadline) {
  for (const auto id : context_.plan.cells_on(context_.self)) {
    const auto& cell = context_.plan.cell(id);
    if (cell.role == role_kind::front || cell.role == role_kind::stub)
      continue;
    auto one = std::make_unique<role_parts>();
    one->cell = id;
    roles_.emplace(cell.role, std::move(one));
    auto& here = *roles_.at(cell.role);
    auto steps = make_steps(cell, here.board, deadline);
    if (!steps)
      return tl::unexpected<failure>{steps.error()};
    here.steps = *std::move(steps);
  }
  return {};
}

result<std::shared_ptr<actors::cell_steps>>
rank_runtime::make_steps(const cell_plan& cell, const actors::admission_table& board, time_point deadline) {
  const auto place = *cell.place_of(context_.self);
  actors::cell_steps::parts parts;
  auto& runs = parts.runs;
  runs.cell = cell;
  runs.place = place;
  runs.facts = context_.facts;
  runs.batch_max = context_.spec.limits.batch_max;
  runs.step_deadline = step_max();
  runs.captures = &context_.captures;
  runs.steps_ahead = on_device() ? 1 : 0;

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
        std::make_shared<gpu::group>(lanes->plan, lanes->self, gpu::make_host_backend(lanes), runs.step_deadline);
    if (on_device()) {
      base::flight_span joining{record_of(start_part::collectives)};
      if (auto given = joining.ends(give_device(*group)); !given)
        return tl::unexpected<failure>{given.error()};
    }
    return group;
  };
  const auto settle = [&](gpu::group& group) -> result<void> {
    if (!on_device())
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
    parts.plans.emplace(*lanes);
    auto whole = wrap(*lanes);
    if (!whole)
      return tl::unexpected<failure>{whole.error()};
    runs.cell_group = *std::move(whole);
    const auto& mesh = cell.meshes[cell.stage_of(place)];
    if (mesh == cell.group) {
      runs.mesh = runs.cell_group;
    } else if (mesh) {
      if (auto settled = settle(*runs.cell_group); !settled) // in spec order on every rank (B26)
        return tl::unexpected<failure>{settled.error()};
      auto mesh_lanes = make_group(*mesh);
      if (!mesh_lanes)
        return tl::unexpected<failure>{mesh_lanes.error()};
      auto stage = wrap(*mesh_lanes);
      if (!stage)
        return tl::unexpected<failure>{stage.error()};
      runs.mesh = *std::move(stage);
    }
  }
  if (auto given = give_model(cell, runs); !given) // while the newest group is joined
    return tl::unexpected<failure>{given.error()};
  if (const auto& newest = runs.mesh ? runs.mesh : runs.cell_group)
    if (auto settled = settle(*newest); !settled)
      return tl::unexpected<failure>{settled.error()};
  return std::make_shared<actors::cell_steps>(context_, std::move(parts), board);
}

std::set<std::string> rank_runtime::devices_of(std::span<const rank_id> ranks) const {
  std::set<std::string> devices;
  for (const auto rank : ranks)
    devices.insert(context_.plan.rank(rank).device.name_on(device_count_));
  return devices;
}

/// A driver gives a GPU's processes turns, and a sum needs those of all members at once.
void rank_runtime::warn_of_turns(const gpu::group& group) const {
  const auto& members = group.plan().members;
  const auto devices = devices_of(members);
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
  const auto devices = devices_of(group.plan().members).size();
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

result<void> rank_runtime::give_model(const cell_plan& cell, gpu::step_runner::parts& runs) {
  const auto share = gpu::models::shard_at(cell, runs.place);
  const base::flight_span loading{record_of(start_part::weights)};
  const auto area = [&](const char* purpose) {
    const auto found = context_.regions.find(purpose);
    return found == context_.regions.end()
               ? gpu::slot_area{}
               : gpu::slot_area{found->second.bytes, found->second.card.slot_bytes,
                                found->second.kind == fabric::memory_kind::device ? gpu::device_kind::cuda
                                                                                  : gpu::device_kind::cpu};
  };
  if (cell.role == role_kind::encode) {
    auto tower = folder_->load_vision(share);
    if (!tower)
      return tl::unexpected<failure>{tower.error()};
    runs.vision = *std::move(tower);
    runs.pixels = area("pixels");
    runs.rows = area("tower");
    return {};
  }
  const auto layout = gpu::models::layout_at(context_.facts, context_.spec, cell, runs.place);
  const auto& pool = context_.regions.at(cell.role == role_kind::prefill ? "kv.prefill" : "kv.decode");
  auto text = folder_->load_text(share, layout, pool.bytes);
  if (!text)
    return tl::unexpected<failure>{text.error()};
  runs.text = *std::move(text);
  if (cell.role == role_kind::prefill)
    runs.rows = area("rows");
  return {};
}

/// Tokens go straight to the front.
actors::executor_actor::token_sink rank_runtime::token_sink() {
  if (context_.plan.front() == context_.self)
    return [this](std::span<const token_event> step) -> result<void> {
      caf::anon_send(*context_.roles->find(role_kind::front),
                     actors::envelope<tokens>{context_.self, tokens{{step.begin(), step.end()}}});
      return {};
    };
  // The batch is bounded, and so is what is kept for it: nothing is allocated once a full batch has been sent.
  return [this, batch = std::make_shared<tokens>()](std::span<const token_event> step) -> result<void> {
    batch->events.assign(step.begin(), step.end());
    token_bytes_.clear();
    encode_payload(*batch, token_bytes_);
    frame_header header;
    header.type = tokens::type;
    return fabric::send(*token_lane_, header, token_bytes_,
                        base::now() + std::chrono::milliseconds{context_.spec.timeouts.collective_ms});
  };
}

void rank_runtime::start_roles() {
  for (auto& [kind, one] : roles_) {
    one->executor = system_->spawn<actors::executor_actor, caf::detached>(
        context_, one->steps,
        actors::executor_actor::options{.tokens = token_sink(),
                                        .turn = context_.turns->claim("an executor stands still between two steps"),
                                        .nap = nap()});
    switch (kind) {
    case role_kind::encode:
      context_.roles->publish(kind, system_->spawn<actors::encode_actor>(context_, one->cell, one->executor));
      break;
    case role_kind::prefill:
      context_.roles->publish(kind,
                              system_->spawn<actors::prefill_actor>(context_, one->cell, one->executor, one->board));
      break;
    case role_kind::decode:
      context_.roles->publish(kind,
                              system_->spawn<actors::decode_actor>(context_, one->cell, one->executor, one->board));
      break;
    case role_kind::front:
    case role_kind::all:
    case role_kind::stub:
      break; // no cell of these has an executor
    }
  }
}

} // namespace troupe::cluster
