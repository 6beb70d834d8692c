#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/serve/roles.hpp"

using namespace troupe::protocols;

namespace {

cluster_spec spec_of(std::vector<pool_spec> pools) {
  cluster_spec spec;
  spec.pools = std::move(pools);
  return spec;
}

pool_spec pool(role_kind role, std::uint32_t cells = 1, std::uint32_t tensor_parallel = 1,
               std::uint32_t pipeline_parallel = 1) {
  return {std::string{name(role)}, role, cells, tensor_parallel, pipeline_parallel};
}

/// front 0; encode 1, 2; prefill 3..6 as two stages of two; decode 7, 8 as one mesh.
cluster_plan full_plan() {
  const auto plan = make_plan(spec_of({pool(serve_role::front), pool(serve_role::encode, 2),
                                       pool(serve_role::prefill, 1, 2, 2), pool(serve_role::decode, 1, 2)}));
  REQUIRE(plan);
  return *plan;
}

std::string refusal(std::vector<pool_spec> pools) {
  const auto plan = make_plan(spec_of(std::move(pools)));
  REQUIRE_FALSE(plan);
  CHECK(plan.error().code == fault::config_invalid);
  return plan.error().what;
}

bool says(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

bool has_edge(const cluster_plan& plan, std::uint32_t connects, std::uint32_t accepts) {
  return std::ranges::count(plan.edges, edge_plan{rank_id{connects}, rank_id{accepts}}) == 1;
}

} // namespace

TEST_CASE("C42: ranks stand in the order of the pools, bound to their place by id") {
  const auto plan = full_plan();

  std::vector<std::string> labels;
  for (const auto& rank : plan.ranks) {
    CHECK(plan.rank(rank.id) == rank);
    labels.push_back(rank.label);
  }
  CHECK(labels == std::vector<std::string>{"front", "encode.0", "encode.1", "prefill.0/s0t0", "prefill.0/s0t1",
                                           "prefill.0/s1t0", "prefill.0/s1t1", "decode.0/t0", "decode.0/t1"});
  CHECK(plan.ranks[5] == rank_plan{rank_id{5}, serve_role::prefill, "prefill", 0, 1, 0, "prefill.0/s1t0"});
  CHECK(plan.front() == rank_id{0});
}

TEST_CASE("B6: a cell knows its leader, its stages and the place of each rank") {
  const auto plan = full_plan();
  const auto& prefill = plan.cell(plan.cells_of(serve_role::prefill).front());

  CHECK(prefill.id == cell_id{3});
  CHECK(prefill.leader() == rank_id{3});
  CHECK(prefill.last_leader() == rank_id{5});
  CHECK(prefill.place_of(rank_id{6}) == 3);
  CHECK(prefill.stage_of(3) == 1);
  CHECK(prefill.mesh_rank_of(3) == 1);
  CHECK_FALSE(prefill.place_of(rank_id{7}));
  CHECK(plan.cells_on(rank_id{6}) == std::vector{cell_id{3}});
}

TEST_CASE("B1: groups stand in the order of the cells, each cell's own before the meshes of its stages") {
  const auto plan = full_plan();

  CHECK(describe_groups(plan) == "prefill.0: 3 4 5 6\n"
                                 "prefill.0.stage0: 3 4\n"
                                 "prefill.0.stage1: 5 6\n"
                                 "decode.0: 7 8\n");
  for (std::uint32_t i = 0; i < plan.groups.size(); ++i)
    CHECK(plan.group(group_id{i}).id == group_id{i});
  CHECK(full_plan() == plan);
}

TEST_CASE("B3: the mesh of a cell without a pipeline is the cell's own group") {
  const auto plan = full_plan();
  const auto& encode = plan.cell(cell_id{1});
  const auto& prefill = plan.cell(cell_id{3});
  const auto& decode = plan.cell(cell_id{4});

  CHECK_FALSE(encode.group);
  CHECK(encode.meshes == std::vector<std::optional<group_id>>{std::nullopt});
  CHECK(prefill.group == group_id{0});
  CHECK(prefill.meshes == std::vector<std::optional<group_id>>{group_id{1}, group_id{2}});
  CHECK(decode.group == group_id{3});
  CHECK(decode.meshes == std::vector<std::optional<group_id>>{group_id{3}});
}

TEST_CASE("B3: stages of one rank have no mesh, but the cell has its group") {
  const auto plan =
      make_plan(spec_of({pool(serve_role::front), pool(serve_role::prefill, 1, 1, 2), pool(serve_role::decode)}));
  REQUIRE(plan);
  const auto& prefill = plan->cell(cell_id{1});

  CHECK(plan->rank(rank_id{2}).label == "prefill.0/s1");
  CHECK(prefill.group == group_id{0});
  CHECK(prefill.meshes == std::vector<std::optional<group_id>>{std::nullopt, std::nullopt});
  CHECK(describe_groups(*plan) == "prefill.0: 1 2\n");
}

TEST_CASE("B4, B5: no group holds the front or ranks of two cells, and the front has an edge with every leader") {
  const auto plan = full_plan();
  for (const auto& group : plan.groups) {
    CAPTURE(group.name);
    const auto cells = plan.cells_on(group.members.front());
    REQUIRE(cells.size() == 1);
    CHECK(plan.cell(cells.front()).role != serve_role::front);
    for (const auto member : group.members)
      CHECK(plan.cells_on(member) == cells); // B24: one cell, so one executor, drives all groups of a rank
  }
  for (const auto& cell : plan.cells)
    if (cell.leader() != plan.front())
      CHECK(has_edge(plan, plan.front().value, cell.leader().value));
}

TEST_CASE("A4: edges join those who talk, the lower id connects") {
  const auto plan = full_plan();

  for (std::uint32_t other = 1; other < 9; ++other)
    CHECK(has_edge(plan, 0, other));
  for (const std::uint32_t encode : {1u, 2u})
    for (std::uint32_t prefill = 3; prefill < 7; ++prefill)
      CHECK(has_edge(plan, encode, prefill));
  for (std::uint32_t prefill = 3; prefill < 7; ++prefill)
    for (const std::uint32_t decode : {7u, 8u})
      CHECK(has_edge(plan, prefill, decode));
  CHECK(has_edge(plan, 7, 8));
  CHECK_FALSE(has_edge(plan, 1, 2)); // two encode cells
  CHECK_FALSE(has_edge(plan, 1, 7)); // encode and decode

  CHECK(plan.edges.size() == 8 + 8 + 8 + 6 + 1);
  CHECK(std::ranges::is_sorted(plan.edges, {}, [](const edge_plan& e) { return std::pair{e.connects, e.accepts}; }));
  for (const auto& edge : plan.edges)
    CHECK(edge.connects < edge.accepts);
  CHECK(plan.token_edges == std::vector{edge_plan{rank_id{0}, rank_id{7}}});
}

TEST_CASE("A4: edges do not depend on where the front stands") {
  const auto plan = make_plan(spec_of({pool(serve_role::decode), pool(serve_role::prefill), pool(serve_role::front)}));
  REQUIRE(plan);

  CHECK(plan->front() == rank_id{2});
  CHECK(plan->edges == std::vector{edge_plan{rank_id{0}, rank_id{1}}, edge_plan{rank_id{0}, rank_id{2}},
                                   edge_plan{rank_id{1}, rank_id{2}}});
  CHECK(plan->token_edges == std::vector{edge_plan{rank_id{0}, rank_id{2}}});
}

TEST_CASE("A rank of role all is a cell of each job and needs no edge") {
  const auto plan = make_plan(spec_of({pool(serve_role::all)}));
  REQUIRE(plan);

  CHECK(plan->ranks.size() == 1);
  CHECK(plan->rank(rank_id{0}).label == "all");
  CHECK(plan->cells_on(rank_id{0}) == std::vector{cell_id{0}, cell_id{1}, cell_id{2}, cell_id{3}});
  CHECK(plan->cells_of(serve_role::all).empty());
  CHECK(plan->cells_of(serve_role::decode) == std::vector{cell_id{3}});
  CHECK(plan->front() == rank_id{0});
  CHECK(plan->groups.empty());
  CHECK(plan->edges.empty());
  CHECK(plan->token_edges.empty());
}

TEST_CASE("Stubs form a star around the first") {
  const auto plan = make_plan(spec_of({pool(role_kind::stub, 4)}));
  REQUIRE(plan);

  CHECK(plan->front() == rank_id{0});
  CHECK(plan->rank(rank_id{3}).label == "stub.3");
  CHECK(plan->edges == std::vector{edge_plan{rank_id{0}, rank_id{1}}, edge_plan{rank_id{0}, rank_id{2}},
                                   edge_plan{rank_id{0}, rank_id{3}}});
}

TEST_CASE("Text models need no encode pool") {
  CHECK(make_plan(spec_of({pool(serve_role::front), pool(serve_role::prefill), pool(serve_role::decode)})));
}

TEST_CASE("A spec that cannot be a cluster is refused with what would be valid") {
  const auto front = pool(serve_role::front);
  const auto prefill = pool(serve_role::prefill);
  const auto decode = pool(serve_role::decode);
  auto second_front = front;
  second_front.name = "front2";

  CHECK(says(refusal({}), "no pool"));
  CHECK(says(refusal({prefill, decode}), "no pool of role front; valid are"));
  CHECK(says(refusal({front, decode}), "no pool of role prefill"));
  CHECK(says(refusal({front, prefill}), "no pool of role decode"));
  CHECK(says(refusal({front, second_front, prefill, decode}), "two pools of role front"));
  CHECK(
      says(refusal({pool(serve_role::front, 2), prefill, decode}), "\"front\": role front takes one cell of one rank"));
  CHECK(says(refusal({pool(serve_role::all), decode}), "role all stands beside other pools"));
  CHECK(says(refusal({pool(serve_role::all, 1, 2)}), "\"all\": role all takes one cell of one rank"));
  CHECK(says(refusal({pool(role_kind::stub), decode}), "role stub stands beside other pools"));
  CHECK(says(refusal({front, prefill, decode, decode}), "\"decode\" stands twice"));
  CHECK(says(refusal({front, pool(serve_role::prefill, 0), decode}), "\"prefill\": cells"));
}

TEST_CASE("A cluster has limits::ranks_max ranks at most, and sizes cannot overflow") {
  CHECK(make_plan(spec_of({pool(role_kind::stub, limits::ranks_max)})));
  CHECK(says(refusal({pool(role_kind::stub, limits::ranks_max, 2)}), "make 8192 ranks"));
  CHECK(says(refusal({pool(role_kind::stub, 0x1'0000, 0x1'0000)}), "from 1 to 4096"));
}
