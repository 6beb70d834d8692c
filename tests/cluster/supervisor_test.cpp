#include "runtime/cluster/supervisor.hpp"

#include <doctest/doctest.h>

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "runtime/base/clock.hpp"
#include "runtime/cluster/job_status.hpp"
#include "tests/cluster/reaper.hpp"
#include "tests/cluster/run_directory.hpp"

using namespace troupe;
using namespace std::chrono_literals;
using base::exit_code;
using cluster::cluster_outcome;
using tests::run_directory;
using tests::spec_of;
using tests::text_of;

namespace {

const std::string four_stubs = R"("stub": { "role": "stub", "cells": 4 })";
const std::string one_of_each = R"("front": { "role": "front" }, "encode": { "role": "encode" },
                                   "prefill": { "role": "prefill" }, "decode": { "role": "decode" })";
const std::string quick =
    R"("timeouts": { "heartbeat_ms": 50, "suspect_ms": 100, "kill_ms": 300, "drain_ms": 600, "start_ms": 20000 })";

const std::string never = R"("restart": { "encode": "none", "prefill": "none", "decode": "none" })";
const std::string twice = R"("restart": { "intensity": 2 })";

struct scene {
  run_directory root;
  std::vector<std::string> lines; ///< of the ranks, with their prefix
  std::vector<std::string> shown; ///< to the person who waits
  bool was_ready = false;
  std::filesystem::path job;
  protocols::duration took{};

  cluster::supervisor_options options(cluster::loaded_spec spec, const std::vector<std::string>& orders) {
    std::vector<std::string> command{std::string{TROUPE_BINARY_DIR} + "/troupe_stub_child"};
    for (const auto& order : orders) {
      command.emplace_back("--do");
      command.push_back(order);
    }
    return {.spec = std::move(spec),
            .job = "test",
            .root = root.path(),
            .rank_command = std::move(command),
            .take_signals = false,
            .on_progress =
                [this](std::string_view line) {
                  shown.emplace_back(line);
                  if (stop_when_shown && line.find(*stop_when_shown) != line.npos)
                    running->request_stop("enough");
                },
            .on_ready = {},
            .on_log =
                [this](std::string_view line) {
                  lines.emplace_back(line);
                  if (on_line)
                    on_line(line);
                  if (stop_when_logged && line.find(*stop_when_logged) != line.npos)
                    running->request_stop("enough");
                  if (!insist_when_drained || line.find(":0:front drain: ") == line.npos)
                    return;
                  using enum protocols::life_machine::stop_asker;
                  running->request_stop("one", terminal);
                  running->request_stop("two", terminal);
                }};
  }

  std::optional<std::uint32_t> victim;        ///< killed when all are ready
  std::optional<std::string> stop_when_shown; ///< part of a line
  std::function<void(std::string_view line)> on_line;
  std::optional<std::string> stop_when_logged;
  bool insist_when_drained = false; ///< as by Ctrl-C twice, once the front has been told to finish
  cluster::supervisor* running = nullptr;

  /// Runs to the end; `stop` when ready unless somebody else ends it.
  cluster_outcome play(cluster::loaded_spec spec, const std::vector<std::string>& orders, bool stop = false,
                       bool take_signals = false) {
    auto given = options(std::move(spec), orders);
    given.take_signals = take_signals;
    given.on_ready = [&] {
      was_ready = true;
      if (victim)
        ::kill(pid_of(*victim), SIGKILL);
      if (stop)
        running->request_stop("enough");
    };
    auto prepared = cluster::supervisor::prepare(std::move(given));
    REQUIRE_MESSAGE(prepared, prepared.error().what);
    running = prepared->get();
    job = running->paths().directory;
    const auto began = base::now();
    auto outcome = running->run();
    took = base::now() - began;
    CHECK(std::ranges::all_of(outcome.ranks, &cluster::rank_outcome::gone));
    return outcome;
  }

  pid_t pid_of(std::uint32_t rank) const {
    return cluster::parse_job_status(text_of(job / "status.json"))->ranks.at(rank).pid;
  }

  bool has_line(std::string_view part) const {
    return std::ranges::any_of(lines, [&](const auto& line) { return line.find(part) != line.npos; });
  }
};

} // namespace

TEST_CASE("C2: four ranks become ready, drain on request and leave in order") {
  scene stage;
  const auto outcome = stage.play(spec_of(four_stubs), {}, true);

  CHECK(stage.was_ready);
  CHECK(outcome.code == exit_code::done);
  CHECK(outcome.first_cause.empty());
  REQUIRE(outcome.ranks.size() == 4);
  for (const auto& rank : outcome.ranks) {
    CHECK(rank.end.is_orderly());
    CHECK_FALSE(rank.killed);
  }
  CHECK(stage.shown.empty()); // it was quick
  const auto status = cluster::parse_job_status(text_of(stage.job / "status.json"));
  REQUIRE(status);
  CHECK(status->state == "ended");
  CHECK(std::ranges::all_of(status->ranks, [](const auto& rank) { return rank.state == "left"; }));
}

TEST_CASE("C1: a rank that is killed is named as the first cause, and all are gone within the deadline") {
  for (const auto* moment : {"spawned", "joined", "agreeing", "agreed", "grouped", "warm", "ready"}) {
    CAPTURE(moment);
    scene stage;
    const auto outcome = stage.play(spec_of(four_stubs), {std::string{"2:"} + moment + ":die"});

    CHECK(outcome.code == exit_code::rank_failed);
    CHECK(outcome.first_cause.find("first cause: rank 2 (stub.2) on ") == 0);
    CHECK(outcome.first_cause.find("was killed by signal 9 (Killed)") != std::string::npos);
    CHECK(stage.took < 30s);
  }
}

TEST_CASE("A11: a rank that fails is named with its error, call and phase, what its peers say of it is not the cause") {
  scene stage;
  const auto outcome = stage.play(spec_of(four_stubs), {"0:ready:peer-gone", "3:ready:fail"});

  CHECK(outcome.code == exit_code::rank_failed);
  CHECK(outcome.first_cause.find("rank 3 (stub.3)") != std::string::npos);
  CHECK(outcome.first_cause.find("executor_failed: out of paper (call 17, step)") != std::string::npos);
}

TEST_CASE("A11: how a rank died is told, not what a peer says of it, though its sockets were closed long before") {
  scene stage;
  const auto outcome = stage.play(spec_of(four_stubs), {"2:ready:die-slowly", "3:ready:accuse:2"});

  CHECK(outcome.code == exit_code::rank_failed);
  CHECK(outcome.first_cause.find("first cause: rank 2 (stub.2) on ") == 0);
  CHECK(outcome.first_cause.find("was killed by signal 9 (Killed)") != std::string::npos);
}

TEST_CASE("A11: a supervisor that was not let run judges nobody before it has looked at all processes again") {
  scene stage;
  stage.on_line = [&](std::string_view line) {
    if (line.find("has accused") == line.npos)
      return;
    ::kill(stage.pid_of(2), SIGKILL);
    ::poll(nullptr, 0, static_cast<int>(2 * protocols::limits::first_cause_grace.count())); // its thread is held
  };
  const auto outcome = stage.play(spec_of(four_stubs), {"3:ready:accuse:2"});

  CHECK(outcome.code == exit_code::rank_failed);
  CHECK(outcome.first_cause.find("first cause: rank 2 (stub.2) on ") == 0);
  CHECK(outcome.first_cause.find("was killed by signal 9 (Killed)") != std::string::npos);
}

TEST_CASE("C3: the front is told of a dead cell before it is ordered to leave") {
  scene stage;
  stage.victim = 3;
  const auto outcome = stage.play(spec_of(one_of_each, never), {});

  CHECK(outcome.code == exit_code::rank_failed);
  const auto told = std::ranges::find_if(
      stage.lines, [](const auto& line) { return line.find(":0:front lost: rank 3 (decode.0)") != line.npos; });
  const auto ordered =
      std::ranges::find_if(stage.lines, [](const auto& line) { return line.find(":0:front abort: ") != line.npos; });
  CHECK(told != stage.lines.end());
  CHECK(ordered != stage.lines.end());
  CHECK(told < ordered);
  CHECK(stage.took > protocols::limits::front_notice);
}

TEST_CASE("C46: a cell that dies is started again with a new generation while the others stay") {
  scene stage;
  stage.victim = 3;
  stage.stop_when_shown = "ready again after";
  const auto outcome = stage.play(spec_of(one_of_each, twice), {});

  CHECK(outcome.code == exit_code::done);
  CHECK(outcome.first_cause.empty());
  REQUIRE(stage.shown.size() == 2);
  CHECK(stage.shown[0].find("rank 3 (decode.0) on ") == 0);
  CHECK(stage.shown[0].find("was killed by signal 9 (Killed) while ready; restart 1 of at most 2 in 60 s") !=
        std::string::npos);
  CHECK(stage.shown[1].find("generation 2") != std::string::npos);
  for (const auto* line : {":0:front lost: rank 3", ":1:encode.0 lost: rank 3", ":0:front admits generation 2",
                           ":2:prefill.0 admits generation 2", ":0:front recovered 1"})
    CHECK_MESSAGE(stage.has_line(line), line);
  const auto status = cluster::parse_job_status(text_of(stage.job / "status.json"));
  CHECK(status->ranks.at(3).generation == 2);
  CHECK(status->ranks.at(2).generation == 1);
}

TEST_CASE("C46: a rank that stayed and dies while it admits another is started again with it") {
  scene stage;
  stage.victim = 3;
  stage.stop_when_shown = "ready again after";
  const auto outcome = stage.play(spec_of(one_of_each, twice), {"2:rejoining:die"});

  CHECK(outcome.code == exit_code::done);
  CHECK(stage.has_line(":0:front recovered 2"));
  const auto status = cluster::parse_job_status(text_of(stage.job / "status.json"));
  CHECK(status->ranks.at(3).generation == 3);
  CHECK(status->ranks.at(2).generation == 3);
  CHECK(status->ranks.at(1).generation == 1);
}

TEST_CASE("K14: a rank that stayed and does not admit the newcomer is the one that is named and restarted") {
  scene stage;
  stage.victim = 3;
  stage.stop_when_shown = "ready again after";
  const auto outcome = stage.play(spec_of(one_of_each, twice), {"2:rejoining:hang"});

  CHECK(outcome.code == exit_code::done);
  const auto lost =
      std::ranges::find_if(stage.shown, [](const auto& line) { return line.find("stayed") != line.npos; });
  REQUIRE(lost != stage.shown.end());
  CHECK(lost->find("rank 2 (prefill.0) on ") == 0);
  CHECK(lost->find("stayed and does not admit decode.0: it has not taken the order") != std::string::npos);
  CHECK(lost->find("restart 1 of at most 2 in 60 s") != std::string::npos);
  const auto status = cluster::parse_job_status(text_of(stage.job / "status.json"));
  for (const std::uint32_t rank : {2u, 3u})
    CHECK(status->ranks.at(rank).generation == 3);
  for (const std::uint32_t rank : {0u, 1u})
    CHECK(status->ranks.at(rank).generation == 1);
}

TEST_CASE("C1: a cell that dies again and again ends the cluster, and the line says that it was restarted") {
  for (const auto* moment : {"ready", "warm", "joined"}) {
    CAPTURE(moment);
    scene stage;
    stage.victim = 3;
    const auto outcome = stage.play(spec_of(one_of_each, twice), {std::string{"3+:"} + moment + ":die"});

    CHECK(outcome.code == exit_code::rank_failed);
    CHECK(outcome.first_cause.find("first cause: rank 3 (decode.0) on ") == 0);
    CHECK(outcome.first_cause.find("not restarted again: restart.intensity (restart 2 of at most 2 in 60 s)") !=
          std::string::npos);
  }
}

TEST_CASE("J7: the front is told of every rank, what it has counted, and that another process has its place") {
  scene stage;
  stage.victim = 3;
  stage.stop_when_logged = ":0:front view 0:ready:0:0 1:ready:0:1 2:ready:0:0 3:ready:1:1";
  const auto outcome = stage.play(spec_of(one_of_each, twice), {"1:ready:count", "3:ready:count"});

  CHECK(outcome.code == exit_code::done);
  CHECK(stage.has_line(*stage.stop_when_logged));
}

TEST_CASE("A26: a rank that counts what it does not have has broken the protocol of its control socket") {
  scene stage;
  const auto outcome = stage.play(spec_of(one_of_each, never), {"1:ready:count-what-is-none"});

  CHECK(outcome.code == exit_code::rank_failed);
  CHECK(outcome.first_cause.find("first cause: rank 1 (encode.0) on ") == 0);
  CHECK(outcome.first_cause.find("encode.0 counts metric 99, which it does not have") != std::string::npos);
}

TEST_CASE("C45: SIGTERM drains, SIGINT drains and shows in the exit code") {
  {
    scene stage;
    const auto outcome = stage.play(spec_of(four_stubs), {"1:ready:term-supervisor"}, false, true);
    CHECK(outcome.code == exit_code::done);
    CHECK(stage.has_line("drain: signal 15"));
  }
  {
    scene stage;
    const auto outcome = stage.play(spec_of(four_stubs), {"1:ready:int-supervisor"}, false, true);
    CHECK(outcome.code == exit_code::interrupted);
    CHECK(std::ranges::all_of(outcome.ranks, [](const auto& rank) { return rank.end.is_orderly(); }));
  }
}

TEST_CASE("K17: SIGTERM again and again, and one Ctrl-C, join the drain") {
  scene stage;
  const auto outcome = stage.play(spec_of(four_stubs),
                                  {"1:ready:term-supervisor", "1:draining:term-supervisor",
                                   "2:draining:term-supervisor", "3:draining:int-supervisor"},
                                  false, true);
  CHECK((outcome.code == exit_code::interrupted || outcome.code == exit_code::done)); // it may come after the last end
  CHECK(std::ranges::all_of(outcome.ranks, [](const auto& rank) { return rank.end.is_orderly(); }));
  CHECK_FALSE(stage.has_line("abort: "));
}

TEST_CASE("K17: a second Ctrl-C tells the front that all is lost, then orders it to leave") {
  scene stage;
  stage.insist_when_drained = true;
  const auto outcome = stage.play(spec_of(one_of_each, never), {"0:draining:stay"}, true);
  CHECK(outcome.code == exit_code::failed);
  CHECK(outcome.first_cause == "leaving at once: two");
  const auto at = [&](std::string_view part) {
    return std::ranges::find_if(stage.lines, [&](const auto& line) { return line.find(part) != line.npos; });
  };
  CHECK(at(":0:front lost: leaving at once: two") != stage.lines.end());
  CHECK(at(":0:front lost: leaving at once: two") < at(":0:front abort: leaving at once: two"));
}

TEST_CASE("C6: a rank that does not leave is killed after drain_ms, and named") {
  scene stage;
  const auto outcome = stage.play(spec_of(four_stubs, quick), {"1:draining:stay"}, true);

  CHECK(outcome.code == exit_code::drain_timeout);
  CHECK(outcome.first_cause.find("timeouts.drain_ms (600 ms): stub.1") != std::string::npos);
  CHECK(outcome.ranks[1].killed);
  CHECK_FALSE(outcome.ranks[0].killed);
  const auto status = cluster::parse_job_status(text_of(stage.job / "status.json"));
  REQUIRE(status);
  CHECK(status->exit_code == static_cast<int>(exit_code::drain_timeout)); // for `troupe down`
  CHECK(status->cause == outcome.first_cause);
  CHECK(stage.took > 600ms);
  CHECK(stage.took < 30s);
}

TEST_CASE("C5: a start that hangs names the rank and its state when start_ms has passed") {
  struct hung {
    const char* order;
    const char* says;
  };
  for (const auto& [order, says] :
       {hung{"1:spawned:hang", "waiting for stub.1 (spawned)"}, hung{"2:joined:hang", "waiting for stub.2 (joined)"},
        hung{"0:agreed:hang", "waiting for stub.0 (agreed)"}, hung{"3:grouped:hang", "waiting for stub.3 (grouped)"}}) {
    CAPTURE(order);
    scene stage;
    auto spec = spec_of(four_stubs, quick);
    spec.spec.timeouts.start_ms = 2000;
    const auto outcome = stage.play(std::move(spec), {order});

    CHECK(outcome.code == exit_code::start_timeout);
    CHECK(outcome.first_cause.find("timeouts.start_ms (2000 ms)") != std::string::npos);
    CHECK(outcome.first_cause.find(says) != std::string::npos);
    CHECK(stage.took < 30s);
  }
}

TEST_CASE("a start that takes longer than two seconds shows what it waits for") {
  scene stage;
  auto spec = spec_of(four_stubs, quick);
  spec.spec.timeouts.start_ms = 2500;
  stage.play(std::move(spec), {"1:joined:hang"});
  REQUIRE_FALSE(stage.shown.empty());
  CHECK(stage.shown.front() == "starting: waiting for stub.1 (joined)");
}

TEST_CASE("B14: ranks that do not agree leave, and the first difference is the cause") {
  scene stage;
  const auto outcome = stage.play(spec_of(four_stubs), {"2:spawned:differ"});
  CHECK(outcome.code == exit_code::rank_failed);
  CHECK(outcome.first_cause.find("another") != std::string::npos);
  CHECK(outcome.first_cause.find("stub.2") != std::string::npos);
}

TEST_CASE("a rank that breaks the control protocol, or hangs up and stays, is blamed and ended") {
  {
    scene stage;
    const auto outcome = stage.play(spec_of(four_stubs, quick), {"1:ready:garbage"});
    CHECK(outcome.code == exit_code::rank_failed);
    CHECK(outcome.first_cause.find("rank 1 (stub.1)") != std::string::npos);
    CHECK(outcome.first_cause.find("bad_magic") != std::string::npos);
  }
  {
    scene stage;
    const auto outcome = stage.play(spec_of(four_stubs, quick), {"1:ready:hang-up"});
    CHECK(outcome.code == exit_code::rank_failed);
    CHECK(outcome.first_cause.find("closed its control socket and did not leave") != std::string::npos);
  }
}

TEST_CASE("J1: what ranks write stands in their logs, prefixed with host, rank and label in that of all") {
  scene stage;
  stage.play(spec_of(four_stubs), {"2:warm:write"}, true);

  CHECK(stage.has_line(":2:stub.2 first"));
  const auto own = text_of(stage.job / "logs/2.log");
  CHECK(own.find("first\n") != own.npos);
  const auto all = text_of(stage.job / "logs/all.log");
  CHECK(all.find(":2:stub.2 first\n") != all.npos);
  CHECK(all.find(":supervisor all 4 ranks are ready\n") != all.npos);
  CHECK(all.find(":0:stub.0 drain: enough\n") != all.npos);
}

TEST_CASE("K6: a status that cannot be written is said once, and written once it can be") {
  scene all;
  auto given = all.options(spec_of(four_stubs), {});
  std::filesystem::path obstacle;
  given.on_ready = [&] {
    std::filesystem::remove(obstacle);
    all.running->request_stop("enough");
  };
  auto prepared = cluster::supervisor::prepare(std::move(given));
  REQUIRE_MESSAGE(prepared, prepared.error().what);
  all.running = prepared->get();
  const auto job = (*prepared)->paths().directory;
  obstacle = job / "status.json.new"; // where it is written first
  REQUIRE(std::filesystem::create_directory(obstacle));

  CHECK((*prepared)->run().code == exit_code::done);

  const auto status = cluster::parse_job_status(text_of(job / "status.json"));
  REQUIRE(status);
  CHECK(status->state == "ended");
  const auto log = text_of(job / "logs" / "all.log");
  const auto said = log.find("cannot write");
  REQUIRE(said != log.npos);
  CHECK(log.find("cannot write", said + 1) == log.npos);
}

TEST_CASE("C21: what a rank has started is gone with it") {
  tests::reaper orphans;
  scene stage;
  const auto outcome = stage.play(spec_of(four_stubs), {"1:ready:start-another"}, true);
  CHECK(outcome.code == exit_code::done);
  CHECK(orphans.sees_all_end(base::now() + 5s));
}

TEST_CASE("a program that cannot be started is one line, and nothing is left") {
  run_directory root;
  auto prepared = cluster::supervisor::prepare({.spec = spec_of(four_stubs),
                                                .job = "test",
                                                .root = root.path(),
                                                .rank_command = {"/nowhere/troupe"},
                                                .take_signals = false,
                                                .on_progress = {},
                                                .on_ready = {},
                                                .on_log = {}});
  REQUIRE(prepared);
  const auto outcome = (*prepared)->run();
  CHECK(outcome.code == exit_code::config);
  CHECK(outcome.first_cause == "cannot start /nowhere/troupe: No such file or directory");
}

TEST_CASE("a job that runs already is refused with who runs it, and may be run again after its end") {
  scene stage;
  {
    const auto first = cluster::supervisor::prepare(stage.options(spec_of(four_stubs), {}));
    REQUIRE(first);
    const auto second = cluster::supervisor::prepare(stage.options(spec_of(four_stubs), {}));
    REQUIRE_FALSE(second);
    CHECK(second.error().what.find("job 'test' runs already: process " + std::to_string(::getpid()) + " since ") == 0);
    CHECK(second.error().what.find("/tmp/test.json") != std::string::npos);
  }
  CHECK(cluster::supervisor::prepare(stage.options(spec_of(four_stubs), {})));
}
