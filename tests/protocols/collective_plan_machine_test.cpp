#include <doctest/doctest.h>

#include "protocols/mesh/collective_plan_machine.hpp"

using namespace troupe::protocols;

namespace {

const group_plan mesh{group_id{1}, "prefill.0", {rank_id{3}, rank_id{4}}};

collective_plan_machine stepping(std::uint32_t expected) {
  collective_plan_machine machine{mesh, 0};
  REQUIRE(machine.begin(call_id{17}, "prefill", expected));
  return machine;
}

} // namespace

TEST_CASE("A25: a step that issues what its plan says passes") {
  auto machine = stepping(2);

  CHECK(machine.enter("all_reduce_sum", 64));
  CHECK(machine.enter("all_gather", 8));
  CHECK(machine.end());
  CHECK(machine.begin(call_id{17}, "vote", 0)); // several steps may share a call
  CHECK(machine.end());
  CHECK(machine.issued_total() == 2);
}

TEST_CASE("B30: a collective too many is refused before it is entered") {
  auto machine = stepping(1);
  REQUIRE(machine.enter("all_reduce_sum", 64));

  const auto refused = machine.enter("all_gather", 8);

  CHECK(refused.error() == failure{fault::plan_mismatch, "all_gather of 8 is one more than planned: call 17, phase "
                                                         "prefill, group prefill.0, expected 1, seen 1"});
  CHECK(machine.issued_total() == 1);
  CHECK(machine.current() == collective_plan_machine::state::broken);
}

TEST_CASE("B30: a collective too few is refused at the end of the step") {
  auto machine = stepping(2);
  REQUIRE(machine.enter("all_reduce_sum", 64));

  CHECK(machine.end().error() == failure{fault::plan_mismatch, "the step ends early: call 17, phase prefill, group "
                                                               "prefill.0, expected 2, seen 1"});
}

TEST_CASE("B9: a collective on a group that has no step open, or by a rank outside the group, is refused") {
  collective_plan_machine idle{mesh, 1};
  CHECK(idle.enter("all_reduce_sum", 1).error().code == fault::wrong_group);

  auto after = stepping(0);
  REQUIRE(after.end());
  CHECK(after.enter("all_gather", 8).error() ==
        failure{fault::wrong_group, "all_gather of 8 where no step of this group is open, after call 17, phase "
                                    "prefill, group prefill.0, expected 0, seen 0"});

  collective_plan_machine stranger{mesh, 2};
  REQUIRE(stranger.begin(call_id{1}, "warm", 1));
  CHECK(stranger.enter("all_reduce_sum", 1).error().code == fault::not_a_member);
}

TEST_CASE("D18: a call older than the last one is refused") {
  auto machine = stepping(0);
  REQUIRE(machine.end());

  CHECK(machine.begin(call_id{16}, "decode", 0).error().code == fault::plan_mismatch);
}

TEST_CASE("A25, B21: steps do not nest, and a broken one is the last") {
  auto machine = stepping(0);

  CHECK(machine.begin(call_id{18}, "decode", 0).error().code == fault::illegal_transition);
  CHECK(machine.end().error().code == fault::illegal_transition);
  CHECK(machine.begin(call_id{19}, "decode", 0).error().code == fault::illegal_transition);
  CHECK(machine.enter("broadcast", 1).error().code == fault::plan_mismatch);
}
