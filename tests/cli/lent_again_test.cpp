#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

/// Every answer of the scene is right, whatever came late.
void play(const std::string& name) {
  const auto end =
      run_troupe({"drill", TROUPE_SOURCE_DIR "/deploy/drills/" + name + ".json", "--patient", "--json"}, 150s);
  CAPTURE(end.out);
  CAPTURE(end.err);
  CHECK(end.in_time);
  CHECK(end.exit_code == 0);
  const auto lines = json_lines(end.out);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0]["struck"] == true);
  CHECK(lines[0]["wrong"] == 0);
  CHECK(lines[0]["lost"] == 0);
  CHECK(lines[0]["duplicates"] == 0);
  CHECK(lines[0]["problems"] == nlohmann::json::array());
}

} // namespace

TEST_CASE("K1, K2: keys and values of a request that was given up do not reach blocks that were lent again") {
  play("blocks-lent-again-later");
}

TEST_CASE("K1: keys and values that were granted by one generation of a rank do not reach the next one's blocks") {
  play("blocks-lent-again-anew");
}

TEST_CASE("K1, K2: rows of a picture that was given up do not reach a slot that was lent again") {
  play("rows-lent-again");
}
