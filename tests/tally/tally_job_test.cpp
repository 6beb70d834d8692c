#include "tests/tally/tally_job.hpp"

#include <doctest/doctest.h>

using namespace troupe;
using namespace troupe::tests;

TEST_CASE("A11: a program that was added starts real ranks from a spec, is ready, and drains with nothing left") {
  tally_job job;
  REQUIRE(job.is_ready());
  const auto supervisor = job.up().pid();
  CHECK(ranks_of(supervisor).size() == 3);
  CHECK(job.down().exit_code == 0);
  const auto ended = job.up().finish();
  CAPTURE(ended.err);
  CHECK(ended.exit_code == 0);
  CHECK(ranks_of(supervisor).empty());
}
