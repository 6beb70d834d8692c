#include "tools/troupe/walk_moves.hpp"

#include "protocols/serve/roles.hpp"
#include <array>
#include <numeric>
#include <vector>

namespace troupe::tools {

using namespace protocols;
using namespace std::chrono_literals;

namespace {

struct move_row {
  walk_move move;
  std::string_view name;
  std::uint32_t weight;
};
constexpr std::array moves{move_row{walk_move::ask, "ask", 66},
                           move_row{walk_move::leave, "leave", 14},
                           move_row{walk_move::give_up, "give up", 14},
                           move_row{walk_move::cancel, "cancel", 16},
                           move_row{walk_move::overload, "overload", 1},
                           move_row{walk_move::kill, "kill", 2},
                           move_row{walk_move::pause, "pause", 12},
                           move_row{walk_move::slow_step, "slow step", 16},
                           move_row{walk_move::late_message, "late message", 8},
                           move_row{walk_move::late_completion, "late completion", 10}};
static_assert(moves.size() == walk_move_count);
constexpr auto weight_of_all =
    std::accumulate(moves.begin(), moves.end(), 0U, [](auto sum, const auto& row) { return sum + row.weight; });

constexpr auto late_most = 2500ms; ///< below `kill_ms`, after which an edge is silent

/// Where its threads do work of a request; its steps, in which the next request's memory may be at stake, more often.
std::vector<std::string_view> slow_points(const rank_plan& rank) {
  const auto step = rank.stage == 0 && rank.mesh_rank == 0 ? "executor.announced" : "executor.planned";
  if (rank.role == serve_role::front)
    return {"front.preflight", "front.ingesting", "front.submitted", "front.pixels_posted", "front.emitted"};
  if (rank.role == serve_role::encode)
    return {step, "encode.stepping", "encode.stepping", "encode.preflight", "encode.rows_posted", "encode.delivered"};
  if (rank.role == serve_role::prefill)
    return {step, step, step, step, "group.entered", "prefill.preflight", "prefill.blocks_posted", "prefill.delivered"};
  if (rank.role == serve_role::decode)
    return {step, step, "group.entered", "decode.preflight", "decode.arrived"};
  return {"rank.idle"};
}

const rank_plan& draw_rank(walk_random& random, const cluster_plan& plan) {
  return plan.ranks[random() % plan.ranks.size()];
}

void draw_slowness(walk_random& random, const rank_plan& rank, cluster::written_rule& rule) {
  const auto kind = random() % 20;
  const auto span = kind < 15 || rank.role == serve_role::front ? draw_span(random, 10ms, 300ms)
                    : kind < 17                                 ? draw_span(random, 300ms, 3500ms)
                                                                : draw_span(random, 8000ms, 12000ms);
  rule.ms = static_cast<std::uint32_t>(span.count());
  // A decode step is short: so many of them make an answer long enough to be written over.
  const auto short_times = rank.role == serve_role::decode ? 60U : 12U;
  rule.times = static_cast<std::uint32_t>(kind < 15 ? 1 + random() % short_times : kind < 17 ? 1 + random() % 3 : 1);
}

} // namespace

std::string_view name(walk_move move) noexcept {
  return moves[static_cast<std::size_t>(move)].name;
}

std::chrono::milliseconds draw_span(walk_random& random, std::chrono::milliseconds least,
                                    std::chrono::milliseconds most) {
  return least + std::chrono::milliseconds{random() % static_cast<std::uint64_t>((most - least).count() + 1)};
}

walk_move draw_move(walk_random& random) {
  auto drawn = random() % weight_of_all;
  for (const auto& row : moves) {
    if (drawn < row.weight)
      return row.move;
    drawn -= row.weight;
  }
  return walk_move::ask;
}

const rank_plan& draw_victim(walk_random& random, const cluster_plan& plan) {
  std::vector<const rank_plan*> those;
  for (const auto& rank : plan.ranks)
    if (rank.id != plan.front())
      those.push_back(&rank);
  return *those.at(random() % those.size());
}

cluster::written_rule draw_slow_step(walk_random& random, const cluster_plan& plan) {
  const auto& rank = draw_rank(random, plan);
  const auto points = slow_points(rank);
  cluster::written_rule rule;
  rule.rank = rank.label;
  rule.action = "slow";
  rule.point = points[random() % points.size()];
  draw_slowness(random, rank, rule);
  return rule;
}

cluster::written_rule draw_late_message(walk_random& random, const cluster_plan& plan) {
  const auto& edge = plan.edges[random() % plan.edges.size()];
  const bool forth = random() % 2 == 0;
  cluster::written_rule rule;
  rule.rank = plan.rank(forth ? edge.connects : edge.accepts).label;
  rule.peer = plan.rank(forth ? edge.accepts : edge.connects).label;
  rule.action = "delay";
  rule.ms = static_cast<std::uint32_t>(draw_span(random, 20ms, late_most).count());
  return rule;
}

cluster::written_rule draw_late_completion(walk_random& random, const cluster_plan& plan) {
  std::vector<const rank_plan*> writers;
  for (const auto& rank : plan.ranks)
    if (rank.role != serve_role::decode && rank.role != role_kind::stub)
      writers.push_back(&rank);
  cluster::written_rule rule;
  rule.rank = writers.at(random() % writers.size())->label;
  rule.action = "delay_completion";
  rule.ms = static_cast<std::uint32_t>(draw_span(random, 20ms, 4000ms).count());
  rule.times = 1 + static_cast<std::uint32_t>(random() % 4);
  return rule;
}

} // namespace troupe::tools
