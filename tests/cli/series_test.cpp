#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/command.hpp"
#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

command_end series(const std::string& kind, std::vector<std::string> more, std::chrono::milliseconds within = 90s) {
  std::vector<std::string> arguments{"drill", "--series", kind, "--folder", TROUPE_SOURCE_DIR "/deploy/drills"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_troupe(std::move(arguments), within);
}

} // namespace

TEST_CASE("J5, C3: cycles of launch, question, drain and exit leave nothing, and a summary is gone on from") {
  const scratch_folder here;
  const auto summary = here / "cycles.jsonl";
  const auto end = series("cycles", {"--count", "2", "--json", "--resume", summary});
  CAPTURE(end.out);
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  const auto lines = json_lines(end.out);
  REQUIRE(lines.size() == 2);
  for (const auto& line : lines) {
    CHECK(line["passed"] == true);
    CHECK(line["done"] == 1);
    CHECK(line["left_alive"] == 0);
    for (const auto* figure : {"launch", "answer", "teardown"})
      CHECK(line["ms"].contains(figure));
  }
  const auto again = series("cycles", {"--count", "2", "--resume", summary}, 5s);
  CHECK(again.exit_code == 0); // nothing is run
  CHECK(has(again.out, "2 of 2 passed; processes left 0"));
  CHECK(has(again.out, "teardown"));
}

TEST_CASE("J5, C45: whatever process of a job is killed at whatever time, nothing is left that has to go") {
  const auto end = series("kills", {"--count", "6", "--seed", "7", "--json"});
  CAPTURE(end.out);
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  const auto lines = json_lines(end.out);
  REQUIRE(lines.size() == 6);
  for (const auto& line : lines) {
    CAPTURE(line.dump());
    CHECK(line["problems"] == nlohmann::json::array());
    CHECK(line["left_alive"] == 0);
  }
}

TEST_CASE("J5, C4: under overload nobody who pauses for less than the bound is taken for dead") {
  const scratch_folder here;
  // Bounds far enough above the pauses for a machine that does other things too.
  const auto spec = here.write(
      "patient.json",
      reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"}, "prefill": {"role": "prefill"},
                      "decode": {"role": "decode"}})",
                  R"(, "timeouts": {"heartbeat_ms": 1500, "suspect_ms": 3500, "kill_ms": 5000, "drain_ms": 20000,
                                    "supervisor_ms": 6000, "progress_ms": 20000, "collective_ms": 20000})"));
  const auto end = series("pressure", {"--seconds", "3", "--spec", spec, "--json"});
  CAPTURE(end.out);
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  const auto lines = json_lines(end.out);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0]["pauses"] >= 1);
  CHECK(lines[0]["false_kills"] == 0);
  CHECK(lines[0]["done"] > 0);
  CHECK(lines[0]["lost"] == 0);
}

TEST_CASE(
    "J5, K1, K2, K9: whatever clients and ranks do at random, every answer is the one that its question gets alone") {
  const scratch_folder here;
  const auto summary = here / "walks.jsonl";
  const auto end = series("walk", {"--for", "8", "--count", "1", "--seed", "5", "--json", "--resume", summary});
  CAPTURE(end.out);
  CAPTURE(end.err);
  CHECK(end.in_time);
  const auto lines = json_lines(end.out);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0]["walk"] == 1);
  for (const auto* count : {"wrong", "lost", "doubled", "left_alive"}) {
    CAPTURE(count);
    CHECK(lines[0][count] == 0);
  }
  CHECK(lines[0]["right"] > 0);
  CHECK(json_lines(content_of(summary)).size() == 1); // what the next run adds to
}

TEST_CASE("a series that is not known is refused in the usage's exit code, one whose spec is not there with 3") {
  CHECK(series("nothing", {}).exit_code == 2);
  CHECK(series("cycles", {"--spec", "/nowhere.json"}).exit_code == 3);
}
