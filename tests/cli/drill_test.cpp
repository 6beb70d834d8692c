#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/cli/command.hpp"
#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

const std::string folder = TROUPE_SOURCE_DIR "/deploy/drills/";

std::string stub_spec(const scratch_folder& here, bool drills) {
  return here.write("stub.json", std::string{R"({"troupe": 1, "name": "stub", "pools": {"stub": {"role": "stub",
                                                  "cells": 3}}, "drills": )"} +
                                     (drills ? "true}" : "false}"));
}

} // namespace

TEST_CASE("C1: a fault injected into a running job strikes that rank, which is named as the first cause") {
  const scratch_folder here;
  command job{{"up", stub_spec(here, true), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready"));
  const auto injected = run_troupe({"inject", here.job(), "rank=stub.1,action=abort", "--run-dir", here / "jobs"});
  CAPTURE(injected.err);
  CHECK(injected.exit_code == 0);
  const auto end = job.finish();
  CAPTURE(end.err);
  CHECK(end.in_time);
  CHECK(end.exit_code == 6);
  CHECK(has(end.err, "rank 1 (stub.1)"));
  CHECK(ranks_of(job.pid()).empty());
}

TEST_CASE("C4, C12: a rank whose main thread stands still, or whose ingest does, is ended by its watchdog, which says "
          "which") {
  struct standstill {
    const char* point;
    std::string pools;
    const char* rank;
    const char* words;
    const char* in; ///< as the record says
  };
  for (const auto& of :
       {standstill{"rank.idle", R"({"stub": {"role": "stub", "cells": 2}})", "stub.1",
                   "the rank's main thread stands still", "idle"},
        standstill{"front.ingesting", std::string{one_rank()}, "one", "an actor does not come back from a message",
                   "in a message of its reader actor"}}) {
    CAPTURE(of.point);
    const scratch_folder here;
    const auto spec = here.write("spec.json", reader_spec(of.pools, R"(, "drills": true, "timeouts": {
        "heartbeat_ms": 50, "suspect_ms": 2000, "kill_ms": 4000, "progress_ms": 1500})"));
    command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs"}};
    REQUIRE(job.prints("is ready"));
    const auto rule = std::string{"rank="} + of.rank + ",action=wedge,point=" + of.point;
    REQUIRE(run_troupe({"inject", here.job(), rule, "--run-dir", here / "jobs"}).exit_code == 0);
    command asking{{"ask", "--job", here.job(), "--run-dir", here / "jobs", "--prompt", "What is this?"}};

    const auto end = job.finish();

    CAPTURE(end.err);
    CHECK(end.in_time);
    CHECK(end.exit_code == 6);
    CHECK(has(end.err, of.rank));
    CHECK(has(end.err, "exit code 75"));
    CHECK(has(end.err, "its last words: watchdog: "));
    CHECK(has(end.err, of.in));
    const auto log = content_of(here / ("jobs/" + here.job() + "/logs/all.log"));
    CHECK(has(log, of.words));
    CHECK(ranks_of(job.pid()).empty());
  }
}

TEST_CASE("a job whose spec does not allow drills refuses a fault in one line and serves on") {
  const scratch_folder here;
  command job{{"up", stub_spec(here, false), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready"));
  const auto refused = run_troupe({"inject", here.job(), "rank=stub.1,action=kill", "--run-dir", here / "jobs"});
  CHECK(refused.exit_code == 5);
  CHECK(refused.err == "troupe: the spec of this job does not say \"drills\": true\n");
  job.signal(SIGTERM);
  CHECK(job.finish().exit_code == 0);
}

TEST_CASE("a rule that names nothing is refused in one line before anything is sent") {
  const scratch_folder here;
  command job{{"up", stub_spec(here, true), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready"));
  const auto inject = [&](const std::string& rule) {
    return run_troupe({"inject", here.job(), rule, "--run-dir", here / "jobs"});
  };
  for (const auto* rule :
       {"rank=stub.9,action=kill", "rank=stub.1,action=kil", "rank=stub.1,action=kill,point=nowhere"}) {
    const auto refused = inject(rule);
    CAPTURE(refused.err);
    CHECK(refused.exit_code == 2);
    CHECK(lines_in(refused.err) == 1);
  }
  const auto absent = run_troupe({"inject", "absent", "rank=stub.1,action=kill", "--run-dir", here / "jobs"});
  CHECK(absent.exit_code == 4);
  job.signal(SIGTERM);
  CHECK(job.finish().exit_code == 0);
}

TEST_CASE("C1: a fault armed with the launch strikes a rank before it has made anything") {
  const scratch_folder here;
  command job{{"up", stub_spec(here, true), "--job", here.job(), "--run-dir", here / "jobs", "--inject",
               "rank=stub.2,action=kill,point=rank.spawned"}};
  const auto end = job.finish();
  CAPTURE(end.err);
  CHECK(end.in_time);
  CHECK(end.exit_code == 6);
  CHECK(has(end.err, "rank 2 (stub.2)"));
  CHECK(has(content_of(here / ("jobs/" + here.job() + "/strikes")), "kill at rank.spawned"));
}

TEST_CASE(
    "G2, G13, G14: a rank that alone is told not to capture ends the start, in the handshake or else in the warm-up") {
  const scratch_folder here;
  auto spec =
      nlohmann::json::parse(std::ifstream{TROUPE_SOURCE_DIR "/deploy/specs/reader-tp2-tp2.json"}, nullptr, true, true);
  spec["drills"] = true;
  spec["model"]["path"] = TROUPE_SOURCE_DIR "/deploy/models/reader";
  const auto file = here.write("reader.json", spec.dump());
  const auto start = [&](const char* point) {
    command job{{"up", file, "--job", here.job(), "--run-dir", here / "jobs", "--inject",
                 std::string{"rank=decode.0/t1,action=no_capture,point="} + point}};
    const auto end = job.finish();
    CHECK(end.in_time);
    CHECK(end.exit_code != 0);
    return end.err;
  };

  const auto early = start("rank.handshake");
  CAPTURE(early);
  CHECK(has(early, "the ranks do not agree on capture of decode"));
  CHECK(has(early, "nothing  <- decode.0/t1"));
  CHECK(has(early, "steps of powers of two up to 32 rows, sums inside  <- decode.0/t0"));

  const auto late = start("rank.warming");
  CAPTURE(late);
  CHECK(has(late, "told to capture nothing"));
}

TEST_CASE("C45: a supervisor that is struck at any of its fault points leaves no process") {
  for (const auto* point :
       {"supervisor.spawning", "supervisor.roster", "supervisor.grouping", "supervisor.warming", "supervisor.idle"}) {
    CAPTURE(point);
    const scratch_folder here;
    command job{{"up", stub_spec(here, true), "--job", here.job(), "--run-dir", here / "jobs", "--inject",
                 std::string{"rank=supervisor,action=kill,point="} + point}};
    const auto end = job.finish();
    CHECK(end.in_time);
    CHECK(end.exit_code == 128 + SIGKILL);
    CHECK(holds_within(5s, [&] { return ranks_of(job.pid()).empty(); }));
  }
}

TEST_CASE("C1, C24, D11: a drill strikes a rank in a collective and judges what became of every request") {
  const scratch_folder here;
  const auto summary = here / "summary.jsonl";
  const std::vector<std::string> drill{
      "drill", folder + "prefill-worker-killed.json", "--json", "--patient", "--resume", summary};
  const auto end = run_troupe(drill, 90s);
  CAPTURE(end.out);
  CAPTURE(end.err);
  CHECK(end.in_time);
  const auto lines = json_lines(end.out);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0]["drill"] == "prefill-worker-killed");
  CHECK(lines[0]["struck"] == true);
  CHECK(lines[0]["lost"] == 0);
  CHECK(lines[0]["wrong"] == 0);
  CHECK(lines[0]["duplicates"] == 0);
  CHECK(lines[0]["left_alive"] == 0);
  CHECK(lines[0]["problems"] == nlohmann::json::array());
  CHECK(end.exit_code == 0);

  const auto again = run_troupe({"drill", folder + "prefill-worker-killed.json", "--resume", summary}, 5s);
  CHECK(again.exit_code == 0); // it has passed: nothing is run
  CHECK(has(again.out, "1 of 1 passed"));
}

TEST_CASE("G9: rows that came otherwise to one rank of a mesh end it by name, and every question is answered right") {
  const auto end = run_troupe({"drill", folder + "rows-shifted.json", "--json", "--patient", "--keep"}, 60s);
  CAPTURE(end.out);
  CAPTURE(end.err);
  const auto lines = json_lines(end.out);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0]["done"] == lines[0]["asked"]);
  CHECK(lines[0]["wrong"] == 0);
  CHECK(lines[0]["problems"] == nlohmann::json::array());
  CHECK(end.exit_code == 0);
  const std::filesystem::path kept = lines[0]["kept"].get<std::string>();
  CHECK(has(content_of(kept / "logs/all.log"), "replica_mismatch: embedding rows: rank 4 holds others than rank 3"));
  std::filesystem::remove_all(kept.parent_path());
}

TEST_CASE("J5: the matrix is whole: every fault, role and phase of every shape is run or says why it cannot exist") {
  const auto list = run_troupe({"drill", "--list", "--folder", folder});
  CHECK(list.exit_code == 0);
  CHECK(lines_in(list.out) == 1 + 6 * 13 * 10 * 12);
  std::set<std::string> names;
  std::size_t run = 0;
  std::istringstream lines{list.out};
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    const auto name = line.substr(0, line.find(' '));
    CAPTURE(line);
    CHECK(names.insert(name).second);
    const auto expected = line.substr(line.find_first_not_of(' ', name.size()));
    const bool runs = !expected.starts_with("not run: ");
    run += runs ? 1 : 0;
    CHECK((runs || expected.size() > 20));
  }
  CHECK(run > 3500);
  const auto some = run_troupe({"drill", "--list", "--folder", folder, "--only", "two-stages.kill-"});
  CHECK(lines_in(some.out) == 1 + 10 * 12);
}

TEST_CASE("J5: a few cells of the matrix, in clusters of every shape, pass") {
  for (const auto* cell :
       {"encode-mesh.kill-encode_worker-in_collective", "two-prefill.kill-prefill_worker-in_collective",
        "one-slot.duplicate_frame-encode-header_sent", "two-decode.throw-decode-result_emitted",
        "two-stages.kill-prefill_worker-preflight"}) {
    CAPTURE(cell);
    const auto end = run_troupe({"drill", "--matrix", "--folder", folder, "--only", cell, "--patient", "--json"}, 60s);
    CAPTURE(end.out);
    CAPTURE(end.err);
    CHECK(end.in_time);
    CHECK(end.exit_code == 0);
    CHECK(lines_in(end.out) == 1);
  }
}

TEST_CASE("J5: a scene in which bytes change on the way is not passed: question and answers are told") {
  const scratch_folder here;
  const auto file = here.write("shifted.json", R"({"drill": 1, "name": "shifted", "spec": ")" + folder +
                                                   R"(lent-again/cluster.json", "load": {"pages": ")" + folder +
                                                   R"(lent-again/pages.json"},
      "events": [{"when": "ready", "rank": "encode.0", "action": "shift_write", "times": 0},
                 {"when": "ready", "rank": "encode.1", "action": "shift_write", "times": 0}],
      "scene": [{"act": "ask", "client": 3, "page": 0}, {"act": "until_answered"},
                {"act": "ask", "client": 3, "page": 0}, {"act": "until_answered"},
                {"act": "ask", "client": 4, "page": 1}, {"act": "cancel", "client": 4},
                {"act": "ask", "client": 5, "page": 1}, {"act": "leave", "client": 5}],
      "expect": {"outcome": "served"}})");
  const auto end = run_troupe({"drill", file, "--patient", "--json"}, 60s);
  CAPTURE(end.out);
  CAPTURE(end.err);
  CHECK(end.exit_code == 1);
  const auto lines = json_lines(end.out);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0]["asked"] == 4);
  CHECK(lines[0]["wrong"] >= 1);
  CHECK(lines[0]["lost"] == 0);
  CHECK(lines[0]["failed"] == 0);
  CHECK(has(lines[0]["problems"].dump(), "(golden-05.png: Read the text.): token "));
  std::filesystem::remove_all(std::filesystem::path{lines[0]["kept"].get<std::string>()}.parent_path());
}

namespace {

/// Whether what failed shows nothing: a cluster that had answered everything before its fault was there.
bool only_unstruck_failed(const std::string& out) {
  return std::ranges::all_of(json_lines(out), [](const auto& line) { return line["passed"] || !line["struck"]; });
}

} // namespace

TEST_CASE("J5: a sample of the matrix, another one every day, passes") {
  const auto days = std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now()).time_since_epoch().count();
  const auto seed = std::to_string(days);
  CAPTURE(seed);
  MESSAGE("troupe drill --matrix --sample 6 --seed ", seed);
  const auto play = [&] {
    return run_troupe({"drill", "--matrix", "--folder", folder, "--sample", "6", "--seed", seed, "--patient", "--json"},
                      300s);
  };
  auto end = play();
  for (int again = 0; again < 2 && end.exit_code == 1 && only_unstruck_failed(end.out); ++again)
    end = play();
  CAPTURE(end.out);
  CAPTURE(end.err);
  CHECK(end.in_time);
  CHECK(end.exit_code == 0);
  CHECK(lines_in(end.out) == 6);
}

TEST_CASE("a drill that cannot be used is told before anything is started, with exit code 3") {
  const scratch_folder here;
  const auto bad = here.write("bad.json", "{\"drill\": 1}");
  for (const auto& file : {bad, here / "absent.json"}) {
    const auto end = run_troupe({"drill", file});
    CHECK(end.exit_code == 3);
    CHECK(has(end.err, file));
  }
  CHECK(run_troupe({"drill"}).exit_code == 2);
}
