#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "tests/cli/command.hpp"
#include "tests/sim/schedule.hpp"

using namespace troupe;
using namespace troupe::tests;

namespace {

const std::string program = TROUPE_BINARY_DIR "/troupe_planted";

command_end run_planted(std::vector<std::string> arguments) {
  command planted{std::move(arguments), {}, RLIM_INFINITY, program};
  return planted.finish();
}

nlohmann::json listed_bugs() {
  std::ifstream in{TROUPE_SOURCE_DIR "/tests/sim/planted/bugs.json"};
  return nlohmann::json::parse(in);
}

struct find {
  std::string name;
  std::vector<std::string> checks; ///< that may find it first
};

/// The check that found each bug; empty: nothing did.
std::map<std::string, std::string> checks_that_found(const std::vector<find>& wanted) {
  const auto path = std::filesystem::temp_directory_path() / ("planted-" + std::to_string(::getpid()) + ".json");
  std::vector<std::string> arguments{"--bases",   "1",   "--schedules", "2000",
                                     "--product", "100", "--json",      path.string()};
  for (const auto& each : wanted)
    arguments.push_back(each.name);
  const auto end = run_planted(std::move(arguments));
  CAPTURE(end.err);
  REQUIRE(end.in_time);
  std::ifstream in{path};
  std::map<std::string, std::string> found;
  for (const auto& each : nlohmann::json::parse(in))
    found[each.at("bug")] = each.contains("found") ? each.at("check") : "";
  std::filesystem::remove(path);
  return found;
}

} // namespace

TEST_CASE("with no bug planted every history is the product's") {
  constexpr std::uint64_t schedules = 60;
  const auto end = run_planted({"--hashes", std::to_string(schedules)});
  REQUIRE(end.exit_code == 0);
  std::istringstream planted{end.out};
  for (std::uint64_t seed = 1; seed <= schedules; ++seed) {
    std::uint64_t hash = 0;
    planted >> std::hex >> hash;
    REQUIRE(planted.good());
    CAPTURE(seed);
    CHECK(hash == sim::run_schedule(
                      {.seed = seed, .ranks_max = 12, .questions_max = 24, .calm = false, .tells = false, .spec = {}})
                      .hash);
  }
}

TEST_CASE("the canary is found by the first schedules") {
  const auto end = run_planted({"canary", "--bases", "5", "--schedules", "20", "--product", "100"});
  CAPTURE(end.out);
  CHECK(end.exit_code == 0);
  CHECK(end.out.find("right answer") != std::string::npos);
}

TEST_CASE("quick bugs are found, each by a check that it breaks") {
  const std::vector<find> wanted{
      {"r2_landed_of_encode_refused", {"routes"}},
      {"step_first_token_twice", {"right answer"}},
      {"step_place_twice", {"invariant B18"}},
      {"tower_before_pixels", {"right answer"}},
      {"decode_without_the_vote", {"right answer", "invariant F14"}},
      {"front_credit_not_taken", {"own memory"}},
      {"decode_left_forgotten", {"nothing is kept", "attempts"}},
      {"front_starves_the_large", {"fair"}},
      {"decode_digest_not_judged", {"refused by name"}},
      {"step_plan_not_checked", {"lockstep"}},
      {"lost_attempts_go_on", {"lost cells serve nobody"}},
      {"life_survivors_not_told", {"who stays is told"}},
      {"life_left_over_lives", {"who is lost ends"}},
      {"drain_never_said", {"told to stop, it ends", "a drain serves"}},
      {"drain_forgets_who_waits", {"a drain serves"}},
  };
  const auto found = checks_that_found(wanted);
  for (const auto& each : wanted) {
    CAPTURE(each.name);
    const auto check = found.at(each.name);
    const bool is_its_own = std::ranges::find(each.checks, check) != each.checks.end();
    CHECK_MESSAGE(is_its_own, check);
  }
}

TEST_CASE("there are bugs enough, and those of the review") {
  const auto rows = listed_bugs();
  CHECK(rows.size() >= 60);
  for (const std::string label : {"R1", "R2", "R3", "R5", "R6", "R7", "R8", "R10", "R11"}) {
    CAPTURE(label);
    CHECK(std::ranges::any_of(rows, [&](const auto& row) { return row.at("label") == label; }));
  }
  CHECK(std::ranges::count_if(rows, [](const auto& row) { return row.value("canary", false); }) == 1);
}

TEST_CASE("a bug that does not exist, and an option that is none, are refused") {
  CHECK(run_planted({"no_such_bug"}).exit_code != 0);
  CHECK(run_planted({"--no-such-option"}).exit_code != 0);
}
