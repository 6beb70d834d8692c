#include <doctest/doctest.h>

#include "tests/cli/golden_pages.hpp"

using namespace troupe;
using namespace troupe::tests;

TEST_CASE(
    "K4, C46: an encode mesh whose worker dies in a collective comes back whole, and every picture is read right") {
  const auto end =
      run_troupe({"drill", TROUPE_SOURCE_DIR "/deploy/drills/encode-worker-killed.json", "--patient", "--json"}, 90s);
  CAPTURE(end.out);
  CAPTURE(end.err);
  const auto lines = json_lines(end.out);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0]["struck"] == true);
  CHECK(lines[0]["wrong"] == 0);
  CHECK(lines[0]["lost"] == 0);
  CHECK(lines[0]["problems"] == nlohmann::json::array());
  CHECK(end.exit_code == 0);
}
