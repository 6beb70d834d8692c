#include "tests/sim/drawn_cluster.hpp"

#include <algorithm>
#include <numeric>

#include "protocols/cluster/recovery_deadlines.hpp"
#include "protocols/invariant.hpp"
#include "protocols/serve/roles.hpp"
#include "tests/sim/simulated_model.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

constexpr std::uint32_t patch_side = 32; ///< pixels of a merged patch

/// Small, and divisible by every degree of parallelism that is drawn.
gpu::models::model_facts model_of(const cluster_spec& spec) {
  gpu::models::model_facts facts;
  facts.name = "simulated";
  facts.vocabulary = vocabulary;
  std::uint32_t heads = 1;
  std::uint32_t stages = 1;
  for (const auto& pool : spec.pools) {
    heads = std::lcm(heads, pool.tensor_parallel);
    stages = std::max(stages, pool.pipeline_parallel);
  }
  facts.hidden = heads;
  facts.layers = stages;
  facts.query_heads = facts.kv_heads = facts.vision_heads = heads;
  facts.head_elements = 1;
  facts.context_max = 8192;
  facts.end_tokens = {end_token};
  facts.has_vision = true;
  facts.patch_pixels = patch_side / 2;
  facts.merge = 2;
  facts.picture_pixels_min = patch_side * patch_side;
  facts.picture_pixels_max = 12 * patch_side * patch_side;
  facts.image_token = image_token;
  return facts;
}

pool_spec pool(const char* name, role_kind role, std::uint32_t cells, std::uint32_t tensor, std::uint32_t stages) {
  pool_spec one;
  one.name = name;
  one.role = role;
  one.cells = cells;
  one.tensor_parallel = tensor;
  one.pipeline_parallel = stages;
  return one;
}

/// 1 in half of the draws.
std::uint32_t few(draw& dice, std::uint32_t most) {
  return dice.below(2) == 0 ? 1 : static_cast<std::uint32_t>(dice.between(1, most));
}

void draw_pools(draw& dice, cluster_spec& spec, std::uint32_t ranks_max) {
  if (dice.below(16) == 0) {
    spec.pools = {pool("all", serve_role::all, 1, 1, 1)};
    return;
  }
  auto left = ranks_max - 1;
  spec.pools = {pool("front", serve_role::front, 1, 1, 1)};
  const auto add = [&](const char* name, role_kind role, std::uint32_t stages_max, std::uint32_t kept) {
    auto one = pool(name, role, few(dice, 4), few(dice, 4), few(dice, stages_max));
    const auto room = left - kept;
    while (one.ranks_per_cell() > room)
      (one.pipeline_parallel > 1 ? one.pipeline_parallel : one.tensor_parallel) -= 1;
    one.cells = std::min(one.cells, room / one.ranks_per_cell());
    left -= one.cells * one.ranks_per_cell();
    spec.pools.push_back(one);
  };
  if (ranks_max >= 4 && dice.below(4) != 0)
    add("encode", serve_role::encode, 1, 2);
  add("prefill", serve_role::prefill, 3, 1);
  add("decode", serve_role::decode, 3, 0);
}

void draw_limits(draw& dice, cluster_spec& spec) {
  auto& bounds = spec.limits;
  bounds.in_flight_max = static_cast<std::uint32_t>(dice.between(1, 12));
  if (dice.below(128) == 0)
    bounds.in_flight_max = 64; // more questions than are read at a time
  bounds.kv_tokens_max =
      limits::kv_block_tokens * static_cast<std::uint32_t>(dice.between(8, dice.below(2) == 0 ? 24 : 96));
  if (dice.below(24) == 0)
    bounds.kv_tokens_max = limits::kv_block_tokens * 400; // prompts of several pieces
  bounds.batch_max = static_cast<std::uint32_t>(dice.between(1, 8));
  bounds.row_slots = static_cast<std::uint32_t>(dice.between(1, 6));
  bounds.pixel_slots = static_cast<std::uint32_t>(dice.between(1, 4));
}

void draw_timeouts(draw& dice, cluster_spec& spec) {
  auto& t = spec.timeouts;
  const auto ms = [&](std::uint32_t first, std::uint32_t last) {
    return static_cast<std::uint32_t>(dice.between(first, last));
  };
  t.heartbeat_ms = ms(20, 200);
  t.suspect_ms = t.heartbeat_ms + ms(100, 1000);
  t.kill_ms = t.suspect_ms + ms(100, 2000);
  t.drain_ms = t.kill_ms + ms(500, 5000);
  t.progress_ms = ms(1000, 4000);
  t.supervisor_ms = t.kill_ms + ms(500, 6000);
  t.transfer_ms = ms(500, 8000);
  t.room_ms = t.transfer_ms + ms(100, 10'000);
  t.collective_ms = ms(500, 4000);
  t.request_ms = std::max(t.room_ms, t.collective_ms) + (dice.below(3) == 0 ? ms(1000, 2500) : ms(1000, 20'000));
  t.start_ms = static_cast<std::uint32_t>(recovery_deadlines{t}.longest().count()) + ms(5000, 30'000);
  spec.lanes.bulk = dice.below(2) == 0 ? bulk_lane::shared_memory : bulk_lane::fabric;
  spec.restart.intensity = ms(1, 5);
  spec.restart.window_s = ms(1, 60);
  for (const auto role : {serve_role::encode, serve_role::prefill, serve_role::decode})
    spec.restart.of[static_cast<std::size_t>(role)] = dice.below(8) == 0 ? restart_policy::none : restart_policy::cell;
}

} // namespace

sim_cluster draw_cluster(draw& dice, std::uint32_t ranks_max) {
  cluster_spec spec;
  spec.name = "drawn";
  spec.model_path = "/simulated";
  draw_pools(dice, spec, ranks_max);
  draw_limits(dice, spec);
  draw_timeouts(dice, spec);
  auto made = cluster_of(std::move(spec));
  TROUPE_ASSERT("drawn spec", made.has_value());
  return *std::move(made);
}

result<sim_cluster> cluster_of(cluster_spec spec) {
  sim_cluster made;
  made.facts = model_of(spec);
  auto plan = make_plan(spec);
  if (!plan)
    return tl::unexpected<failure>{plan.error()};
  made.plan = *std::move(plan);
  made.spec = std::move(spec);
  return made;
}

} // namespace troupe::sim
