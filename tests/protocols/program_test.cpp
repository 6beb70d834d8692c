#include "protocols/cluster/program.hpp"

#include <doctest/doctest.h>

#include <array>
#include <set>

#include "protocols/serve/flight_names.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/serve/roles.hpp"

using namespace troupe::protocols;

namespace {

/// A program of two roles, as one outside of the shared code writes it: a source tells a mesh what to add up.
namespace adder {

constexpr role_kind source{20};
constexpr role_kind mesh{21};
constexpr message_type add{900};
constexpr message_type sum{901};
constexpr station at_source{source, seat::leader};
constexpr station at_mesh_leader{mesh, seat::leader};
constexpr station at_mesh{mesh, seat::any};

constexpr std::array roles{
    role_row{.role = source, .name = "source", .one_rank = true, .jobs = {}},
    role_row{.role = mesh, .name = "mesh", .computes = true, .restarts = true, .jobs = {}},
};
constexpr std::array routes{route{add, at_source, at_mesh_leader}, route{sum, at_mesh_leader, at_source}};
constexpr std::array regions{
    region_row{.purpose = "numbers", .owner = at_mesh, .source = "drawn", .writer = at_source}};
constexpr std::array transfers{transfer_row{transfer_kind{1}, source, mesh}};
constexpr std::array messages{message_row{add, "add"}, message_row{sum, "sum"}};

result<void> validate_pools(const cluster_spec& spec) {
  for (const auto& pool : spec.pools)
    if (pool.role == mesh)
      return {};
  return fail(fault::config_invalid, "no pool of role mesh");
}

constexpr program all{
    .name = "adder",
    .roles = roles,
    .front = source,
    .contacts = {},
    .streams = role_kind::stub,
    .routes = routes,
    .regions = regions,
    .transfers = transfers,
    .messages = messages,
    .fault_points = {},
    .settings = {},
    .actors = {},
    .phases = {},
    .metrics = {},
    .layouts = "a source and a mesh",
    .validate_pools = validate_pools,
};

} // namespace adder

void add_adder() {
  if (find_program("adder") == nullptr)
    REQUIRE(add_program(adder::all));
}

cluster_spec spec_of(std::vector<pool_spec> pools, std::string program = "adder") {
  cluster_spec spec;
  spec.program = std::move(program);
  spec.pools = std::move(pools);
  return spec;
}

std::string error_of(const cluster_spec& spec) {
  const auto plan = make_plan(spec);
  return plan ? "" : plan.error().what;
}

} // namespace

TEST_CASE("a program that was added has names for its roles and messages, and a plan by its own rows") {
  add_adder();
  CHECK(name(adder::mesh) == "mesh");
  CHECK(name(adder::sum) == "sum");
  CHECK(is_known(adder::add));

  const auto plan = make_plan(spec_of({{"source", adder::source}, {"mesh", adder::mesh, 2, 2}})).value();
  CHECK(plan.of == &adder::all);
  REQUIRE(plan.ranks.size() == 5);
  CHECK(plan.rank(rank_id{0}).label == "source");
  CHECK(plan.rank(rank_id{3}).label == "mesh.1/t0");
  CHECK(plan.front() == rank_id{0});
  CHECK(plan.token_edges.empty());
  CHECK(plan.edges.size() == 4 + 2); // the source with everybody, and each mesh within itself
}

TEST_CASE("K4: a message of an added program is taken where its rows say, and nowhere else") {
  add_adder();
  const auto plan = make_plan(spec_of({{"source", adder::source}, {"mesh", adder::mesh, 1, 2}})).value();
  CHECK(takers_of(plan, adder::add, rank_id{0}, rank_id{1}).contains(adder::mesh));
  CHECK(takers_of(plan, adder::add, rank_id{0}, rank_id{2}).empty()); // a worker
  CHECK(takers_of(plan, adder::add, rank_id{1}, rank_id{0}).empty()); // the other way
  CHECK(takers_of(plan, serve_type::submit, rank_id{0}, rank_id{1}).empty());
  CHECK(ranks_at(plan, adder::at_mesh) == std::vector{rank_id{1}, rank_id{2}});
  CHECK(ranks_at(plan, adder::at_mesh_leader) == std::vector{rank_id{1}});
  CHECK(plan.is_front(rank_id{0}));
  CHECK_FALSE(plan.is_front(rank_id{1}));
  CHECK(stands_at(plan, rank_id{2}, adder::regions[0].owner));
  CHECK_FALSE(stands_at(plan, rank_id{2}, adder::regions[0].writer));
}

TEST_CASE("a pool of another program's role, or of a program that is not known, is refused by name") {
  add_adder();
  CHECK(error_of(spec_of({{"source", adder::source}, {"decode", serve_role::decode}})).find("decode") !=
        std::string::npos);
  CHECK(error_of(spec_of({{"source", adder::source}})).find("no pool of role mesh") != std::string::npos);
  CHECK(error_of(spec_of({{"x", role_kind::stub}}, "adders")).find("valid here: serve") != std::string::npos);
  CHECK(error_of(spec_of({{"x", role_kind::stub, 2}})).empty());
}

TEST_CASE("a program whose name, role, message, actor or phase is another's is not added") {
  add_adder();
  CHECK_FALSE(add_program(adder::all));
  const auto refused = [](program wanted) {
    wanted.name = "other";
    const auto added = add_program(wanted);
    return added ? std::string{} : added.error().what;
  };
  CHECK(refused(adder::all).find("role source") != std::string::npos);
  program other = adder::all;
  other.roles = {};
  CHECK(refused(other).find("message add") != std::string::npos);
  constexpr std::array too_high{role_row{.role = role_kind{roles_max}, .name = "far", .jobs = {}}};
  other.roles = too_high;
  other.messages = {};
  CHECK(refused(other).find("role far") != std::string::npos);
  constexpr std::array far_message{message_row{message_type{message_types_max}, "farther"}};
  other.roles = {};
  other.messages = far_message;
  CHECK(refused(other).find("message farther") != std::string::npos);
  constexpr std::array taken{fault_point{"rank.idle", drill_phase::idle, "A turn."}};
  other.messages = {};
  other.fault_points = taken;
  CHECK(refused(other).find("fault point rank.idle") != std::string::npos);
  for (const auto number : {metric_number{31}, metric_number{static_cast<std::uint16_t>(metrics_max)}}) {
    const std::array bad{metric_row{.number = number, .name = "far_total", .help = ""}};
    auto counts = other;
    counts.fault_points = {};
    counts.actors = {};
    counts.phases = {};
    counts.metrics = bad;
    CHECK(refused(counts).find("metric far_total") != std::string::npos);
  }
  other.fault_points = {};
  for (const auto kind : {actor_kind::link, serve_actor::reader}) {
    const std::array actors{actor_row{kind, "worker"}};
    other.actors = actors;
    CHECK(refused(other).find("actor worker") != std::string::npos);
  }
  other.actors = {};
  for (const auto phase : {flight_phase::other, serve_phase::vote}) {
    const std::array phases{phase_row{phase, "rest"}};
    other.phases = phases;
    CHECK(refused(other).find("phase rest") != std::string::npos);
  }
}

TEST_CASE("roles and messages of all programs that are built in have numbers of their own") {
  std::set<role_kind> roles;
  std::set<message_type> messages;
  for (const auto* const each : programs()) {
    for (const auto& row : each->roles)
      CHECK(roles.insert(row.role).second);
    for (const auto& row : each->messages) {
      CHECK(messages.insert(row.type).second);
      CHECK(name(row.type) == row.name);
    }
  }
}
