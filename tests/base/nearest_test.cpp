#include "runtime/base/nearest.hpp"

#include <doctest/doctest.h>

using namespace troupe::base;

TEST_CASE("the edit distance counts insertions, deletions and substitutions") {
  CHECK(edit_distance("kitten", "sitting") == 3); // the textbook's own example
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("abc", "") == 3);
  CHECK(edit_distance("same", "same") == 0);
}

TEST_CASE("the nearest candidate is named, unless none was probably meant") {
  CHECK(nearest("tensor_paralel", {"cells", "tensor_parallel", "pipeline_parallel"}) == "tensor_parallel");
  CHECK(nearest("colour", {"cells", "role"}) == std::nullopt);
  CHECK(nearest("ab", {"cd"}) == std::nullopt); // nothing in common
}
