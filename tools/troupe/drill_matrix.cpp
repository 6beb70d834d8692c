#include "tools/troupe/drill_matrix.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "protocols/serve/roles.hpp"
#include "runtime/cluster/spec_file.hpp"
#include "tools/troupe/matrix_places.hpp"

namespace troupe::tools {

using namespace protocols;
using cluster::drill_moment;
using cluster::drill_outcome;

namespace {

enum class fault_kind { death, exception, silence, edge, write };

struct fault_row {
  matrix_fault fault;
  std::string_view name;
  fault_kind kind;
  std::string_view action; ///< of the rule
};
constexpr std::array faults{
    fault_row{matrix_fault::kill, "kill", fault_kind::death, "kill"},
    fault_row{matrix_fault::stop, "stop", fault_kind::silence, "stop"},
    fault_row{matrix_fault::segfault, "segfault", fault_kind::death, "segfault"},
    fault_row{matrix_fault::abort, "abort", fault_kind::death, "abort"},
    fault_row{matrix_fault::throw_error, "throw", fault_kind::exception, "throw"},
    fault_row{matrix_fault::wedge, "wedge", fault_kind::silence, "wedge"},
    fault_row{matrix_fault::link_cut, "link_cut", fault_kind::edge, "cut"},
    fault_row{matrix_fault::link_one_way, "link_one_way", fault_kind::edge, "one_way"},
    fault_row{matrix_fault::completion_lost, "completion_lost", fault_kind::write, "lose_completion"},
    fault_row{matrix_fault::stale_grant, "stale_grant", fault_kind::write, "repeat_write"},
    fault_row{matrix_fault::duplicate_frame, "duplicate_frame", fault_kind::edge, "duplicate"},
    fault_row{matrix_fault::slow_consumer, "slow_consumer", fault_kind::edge, "unread"},
    fault_row{matrix_fault::bad_alloc, "bad_alloc", fault_kind::exception, "bad_alloc"}};
static_assert(faults.size() == matrix_fault_count);

struct role_row {
  matrix_role role;
  std::string_view name;
};
constexpr std::array roles{role_row{matrix_role::supervisor, "supervisor"},
                           role_row{matrix_role::front, "front"},
                           role_row{matrix_role::encode, "encode"},
                           role_row{matrix_role::encode_worker, "encode_worker"},
                           role_row{matrix_role::prefill_leader, "prefill_leader"},
                           role_row{matrix_role::prefill_worker, "prefill_worker"},
                           role_row{matrix_role::decode, "decode"},
                           role_row{matrix_role::link, "link"},
                           role_row{matrix_role::listener, "listener"},
                           role_row{matrix_role::watchdog, "watchdog"}};
static_assert(roles.size() == matrix_role_count);

/// A table's row is found by its enumerator.
constexpr bool are_in_order() {
  for (std::size_t i = 0; i < faults.size(); ++i)
    if (static_cast<std::size_t>(faults[i].fault) != i)
      return false;
  for (std::size_t i = 0; i < roles.size(); ++i)
    if (static_cast<std::size_t>(roles[i].role) != i)
      return false;
  return true;
}
static_assert(are_in_order());

constexpr const fault_row& row_of(matrix_fault fault) {
  return faults[static_cast<std::size_t>(fault)];
}
constexpr const role_row& row_of(matrix_role role) {
  return roles[static_cast<std::size_t>(role)];
}
constexpr fault_kind kind_of(matrix_fault fault) {
  return row_of(fault).kind;
}
/// Of the role's first cell: its leader, or the rank that is last in it.
const cell_plan& cell_of(matrix_role role, const cluster_plan& plan) {
  const auto of = role == matrix_role::front                                          ? serve_role::front
                  : role == matrix_role::encode || role == matrix_role::encode_worker ? serve_role::encode
                  : role == matrix_role::decode                                       ? serve_role::decode
                                                                                      : serve_role::prefill;
  return plan.cell(plan.cells_of(of).front());
}
bool is_worker(matrix_role role) {
  return role == matrix_role::encode_worker || role == matrix_role::prefill_worker;
}
std::string label_of(matrix_role role, const cluster_plan& plan) {
  const auto rank = rank_of(role, plan);
  return rank ? plan.rank(*rank).label : "supervisor";
}

std::string_view action_of(matrix_fault fault, matrix_role role) {
  const bool reads = fault == matrix_fault::completion_lost && role == matrix_role::decode; // it is written to
  return reads ? "lose_arrival" : row_of(fault).action;
}

/// Clusters by the names of their folders; the first lies in the matrix's own.
constexpr std::array<std::string_view, 6> shape_names{"",         "encode-mesh", "two-prefill",
                                                      "one-slot", "two-decode",  "two-stages"};

constexpr std::array phases{drill_phase::spawn,   drill_phase::handshake, drill_phase::grouping,
                            drill_phase::warm_up, drill_phase::idle,      drill_phase::preflight,
                            drill_phase::header,  drill_phase::payload,   drill_phase::collective,
                            drill_phase::emitted, drill_phase::hard_cut,  drill_phase::drain};
static_assert(phases.size() == drill_phase_count);

struct edge_end {
  std::string peer;
  std::string_view channel;
};
/// A leader and the next rank of its mesh; a worker and the leader of its stage.
std::string mesh_peer_of(matrix_role role, const cluster_plan& plan) {
  const auto& cell = tools::cell_of(role, plan);
  const auto at = static_cast<std::uint32_t>(is_worker(role) ? cell.ranks.size() - cell.tensor_parallel : 1);
  return plan.rank(cell.ranks[at]).label;
}
edge_end edge_of(matrix_role role, matrix_fault fault, const cluster_plan& plan) {
  const auto label = [&](matrix_role of) { return label_of(of, plan); };
  switch (role) {
  case matrix_role::front:
    return fault == matrix_fault::slow_consumer ? edge_end{label(matrix_role::decode), "tokens"}
                                                : edge_end{label(matrix_role::prefill_leader), "control"};
  case matrix_role::encode: // prefill tells it where to write; what it has to say itself is for the front
    return {label(fault == matrix_fault::slow_consumer ? matrix_role::prefill_leader : matrix_role::front), "control"};
  case matrix_role::encode_worker:
  case matrix_role::prefill_leader:
  case matrix_role::prefill_worker:
  case matrix_role::decode:
    return {mesh_peer_of(role, plan), "group"};
  case matrix_role::supervisor:
  case matrix_role::link:
  case matrix_role::listener:
  case matrix_role::watchdog:
    break;
  }
  return {};
}

bool is_start(drill_phase phase) {
  return phase <= drill_phase::warm_up;
}
bool is_actor(matrix_role role) {
  return role >= matrix_role::link;
}
/// Why a fault cannot fall on a role in a phase that the role has.
std::string_view reason_of(matrix_fault fault, matrix_role role, drill_phase phase) {
  const auto kind = kind_of(fault);
  if (is_actor(role) && (kind == fault_kind::death || fault == matrix_fault::stop))
    return "an actor does not die without its process; its rank's row has that";
  if (is_actor(role) && (kind == fault_kind::edge || kind == fault_kind::write))
    return "what its frames suffer is in its rank's row";
  if (role == matrix_role::supervisor && (kind == fault_kind::edge || kind == fault_kind::write))
    return "the supervisor has no edge and writes nothing";
  if (kind == fault_kind::write) {
    if (phase != drill_phase::payload)
      return "a write is under way in 'payload in flight' alone";
    if (fault == matrix_fault::stale_grant && role == matrix_role::decode)
      return "a decode rank writes nothing";
    if (role == matrix_role::encode_worker)
      return "its leader writes the rows";
  }
  if (kind == fault_kind::edge && phase < drill_phase::warm_up)
    return "its edges are not made yet; what a listener is sent then are the bad peers of the lane tests";
  if (kind == fault_kind::edge && phase == drill_phase::warm_up && !is_mesh(role))
    return "no frame crosses its edges in the warm-up";
  return {};
}

/// What must be seen of a rank whose process, or thread, does not go on.
void expect_of_rank(matrix_cell& cell, const cluster_plan& plan) {
  auto& expect = cell.expect;
  const bool silent = kind_of(cell.fault) == fault_kind::silence;
  const bool restarts = cell.role != matrix_role::front && cell.role != matrix_role::listener;
  expect.cause = label_of(cell.role, plan);
  expect.outcome = drill_outcome::ended;
  expect.exit_code = 6;
  // A process that is stopped is missed by its pulse, from the watchdog's first beat on; the main thread of a rank has
  // the deadline of the step that it does not take.
  // In the warm-up the other member of the cell waits for it, and a collective's deadline passes first.
  const bool has_members =
      is_mesh(cell.role) || (cell.role == matrix_role::encode && rank_of(matrix_role::encode_worker, plan));
  const bool member_tells = cell.fault == matrix_fault::wedge && cell.phase == drill_phase::warm_up && has_members;
  const bool pulse_tells = cell.fault == matrix_fault::stop && cell.phase != drill_phase::spawn;
  if (is_start(cell.phase)) {
    const bool lanes_tell = cell.role == matrix_role::listener; // it runs on their thread, which is watched
    expect.exit_code = silent && !pulse_tells && !member_tells && !lanes_tell ? 7 : 6; // not ready in time
    if (cell.fault == matrix_fault::bad_alloc && !lanes_tell)
      expect.exit_code = 3; // a rank that is out of memory cannot start here; it says so itself
  } else if (cell.phase == drill_phase::drain) {
    expect.exit_code = 6; // its watchdog tells of a wedged main thread before the drain's deadline
  } else {
    if (restarts) {
      expect.outcome = drill_outcome::recovered;
      expect.cause.clear();
      expect.failed_max = 1000;
    }
    expect.over_ms = silent ? 10'000 : 5'000;
  }
}

void expect_of_supervisor(matrix_cell& cell) {
  auto& expect = cell.expect;
  expect.outcome = drill_outcome::killed;
  expect.over_ms = 5'000;
  if (cell.fault == matrix_fault::abort) {
    expect.outcome = drill_outcome::ended;
    expect.exit_code = 70;
  } else if (kind_of(cell.fault) == fault_kind::exception) {
    expect.outcome = drill_outcome::ended;
    expect.exit_code = 1;                                  // one line; its ranks go with it
  } else if (kind_of(cell.fault) == fault_kind::silence) { // nobody is above it; whoever is ends it by SIGKILL
    if (cell.phase != drill_phase::drain)
      cell.load.end = cluster::drill_end::kill;
    expect.over_ms = 0;
  }
}

void expect_of(matrix_cell& cell, const cluster_plan& plan) {
  auto& expect = cell.expect;
  switch (kind_of(cell.fault)) {
  case fault_kind::death:
  case fault_kind::exception:
  case fault_kind::silence:
    return cell.role == matrix_role::supervisor ? expect_of_supervisor(cell) : expect_of_rank(cell, plan);
  case fault_kind::edge:
    expect.outcome = drill_outcome::settled;
    expect.exit_code = 6;
    expect.cause = label_of(cell.role, plan) + " or " + edge_of(cell.role, cell.fault, plan).peer;
    expect.failed_max = 1000;
    return;
  case fault_kind::write:
    expect.outcome = drill_outcome::served;
    expect.failed_max = cell.fault == matrix_fault::stale_grant ? 0 : 4;
    return;
  }
}

matrix_cell cell_of(const matrix_shape& shape, matrix_fault fault, matrix_role role, drill_phase phase) {
  const auto& plan = shape.plan;
  matrix_cell cell;
  cell.shape = shape.name;
  cell.fault = fault;
  cell.role = role;
  cell.phase = phase;
  if (role != matrix_role::supervisor && !rank_of(role, plan)) {
    cell.reason = "an encode cell of this cluster is one rank";
    return cell;
  }
  const auto where = matrix_place_of(role, phase, rank_of(matrix_role::encode_worker, plan).has_value());
  cell.reason = where.reason.empty() ? reason_of(fault, role, phase) : where.reason;
  if (!cell.reason.empty())
    return cell;

  auto& event = cell.event;
  event.rule.rank = label_of(role, plan);
  event.rule.action = action_of(fault, role);
  event.rule.point = where.point;
  event.rule.skip = where.skip;
  if (kind_of(fault) == fault_kind::edge) {
    const auto edge = edge_of(role, fault, plan);
    event.rule.peer = edge.peer;
    event.rule.channel = edge.channel;
    event.rule.skip = 1; // frames; the point is what they count from
  }
  event.when = is_start(phase)                                                    ? drill_moment::launch
               : role == matrix_role::supervisor && phase == drill_phase::emitted ? drill_moment::load
                                                                                  : drill_moment::ready;
  cell.load.repeat = 1;
  cell.load.concurrency = 4;
  if (phase == drill_phase::idle)
    cell.load.after_ms = 500;
  if (phase == drill_phase::drain)
    cell.load.end = cluster::drill_end::drain_early;
  if (phase == drill_phase::drain && kind_of(fault) == fault_kind::edge) { // a drain long enough for two heartbeats
    cell.load.repeat = 4;
    cell.load.concurrency = 32;
  }
  expect_of(cell, plan);
  return cell;
}

} // namespace

std::string_view name(matrix_fault fault) noexcept {
  return row_of(fault).name;
}
std::string_view name(matrix_role role) noexcept {
  return row_of(role).name;
}

std::string matrix_cell::name() const {
  auto text = fmt::format("{}{}{}-{}-{}", shape, shape.empty() ? "" : ".", tools::name(fault), tools::name(role),
                          protocols::name(phase));
  std::ranges::replace(text, ' ', '_');
  return text;
}

std::optional<rank_id> rank_of(matrix_role role, const cluster_plan& plan) {
  if (role == matrix_role::supervisor)
    return std::nullopt;
  const auto& cell = cell_of(role, plan);
  if (!is_worker(role))
    return cell.leader();
  return cell.ranks.size() > 1 ? std::optional{cell.ranks.back()} : std::nullopt;
}

std::vector<matrix_cell> matrix_cells(const std::vector<matrix_shape>& shapes) {
  std::vector<matrix_cell> cells;
  for (const auto& shape : shapes)
    for (const auto& fault : faults)
      for (const auto& role : roles)
        for (const auto phase : phases)
          cells.push_back(cell_of(shape, fault.fault, role.role, phase));
  return cells;
}

result<std::vector<matrix_shape>> matrix_shapes(const std::filesystem::path& folder,
                                                const std::filesystem::path& spec) {
  std::vector<matrix_shape> shapes;
  if (!spec.empty())
    shapes.push_back({.name = {}, .spec = spec, .plan = {}});
  else
    for (const auto name : shape_names)
      shapes.push_back({.name = std::string{name}, .spec = folder / name / "cluster.json", .plan = {}});
  for (auto& shape : shapes) {
    shape.spec = std::filesystem::absolute(shape.spec);
    auto plan = cluster::read_spec(shape.spec).and_then([](const auto& read) { return make_plan(read.spec); });
    if (!plan)
      return tl::unexpected{plan.error()};
    for (const auto role : {serve_role::encode, serve_role::prefill, serve_role::decode})
      if (plan->cells_of(role).empty() ||
          (role != serve_role::encode && plan->cell(plan->cells_of(role)[0]).ranks.size() < 2))
        return fail(fault::config_invalid,
                    shape.spec.string() + ": the matrix wants an encode cell, and meshes that prefill and decode");
    shape.plan = std::move(*plan);
  }
  return shapes;
}

result<std::vector<cluster::drill>> matrix_drills(const std::filesystem::path& folder,
                                                  const std::vector<matrix_shape>& shapes) {
  const auto pages = cluster::read_drill_pages(folder / "pages.json");
  if (!pages)
    return tl::unexpected{pages.error()};
  std::vector<cluster::drill> drills;
  for (const auto& shape : shapes)
    for (const auto& cell : matrix_cells({shape})) {
      if (!cell.reason.empty())
        continue;
      cluster::drill one;
      one.name = cell.name();
      one.spec = shape.spec;
      one.load = cell.load;
      one.pages = *pages;
      one.events = {cell.event};
      one.expect = cell.expect;
      drills.push_back(std::move(one));
    }
  return drills;
}

} // namespace troupe::tools
