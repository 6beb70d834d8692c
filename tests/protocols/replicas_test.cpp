#include "protocols/mesh/replicas.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include "protocols/limits.hpp"

using namespace troupe::protocols;

namespace {

const std::vector<rank_id> members{rank_id{5}, rank_id{6}, rank_id{7}};

std::vector<replica> alike() {
  return std::vector<replica>(members.size(), {.rows = 77, .hidden = {1.0F, -2.0F, 0.0F, 1e-20F, 1e20F, 3, 4, 5}});
}

} // namespace

TEST_CASE("G9: members that hold the same agree, infinities and what is no number too") {
  auto all = alike();
  CHECK_FALSE(compare_replicas(all, members));
  for (auto& each : all)
    each.hidden[1] = std::numeric_limits<float>::quiet_NaN();
  for (auto& each : all)
    each.hidden[2] = -std::numeric_limits<float>::infinity();
  CHECK_FALSE(compare_replicas(all, members));
}

TEST_CASE("G9: rows are compared bit by bit, and who holds others is named") {
  auto all = alike();
  all[2].rows = 78;
  CHECK(compare_replicas(all, members) == "embedding rows: rank 7 holds others than rank 5 (checksums 78 and 77)");
}

TEST_CASE("G9: states may differ by rounding and by no more, in whichever direction and of whichever size") {
  for (const std::size_t element : {0U, 1U, 3U, 4U})
    for (const float sign : {1.0F, -1.0F}) {
      CAPTURE(element);
      CAPTURE(sign);
      auto all = alike();
      all[1].hidden[element] *= 1 + sign * 0.5F * limits::replica_tolerance;
      CHECK_FALSE(compare_replicas(all, members));
      all[1].hidden[element] *= 1 + sign * 2 * limits::replica_tolerance;
      const auto found = compare_replicas(all, members);
      REQUIRE(found);
      CHECK(found->starts_with("element " + std::to_string(element) + " of the last token's state: rank 6 "));
    }
}

TEST_CASE("G7, G9: one that has no number where others have one is named with both") {
  auto all = alike();
  all[1].hidden[0] = std::numeric_limits<float>::quiet_NaN();
  CHECK(compare_replicas(all, members) == "element 0 of the last token's state: rank 6 nan, rank 5 1.000000");
}
