#include <doctest/doctest.h>

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "runtime/base/clock.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/cluster/process.hpp"
#include "runtime/cluster/supervisor.hpp"
#include "runtime/cluster/supervisor_pulse.hpp"
#include "tests/cli/command.hpp"
#include "tests/cluster/reaper.hpp"
#include "tests/cluster/run_directory.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

/// A supervisor in a process of its own.
pid_t start_supervisor(const std::filesystem::path& root, std::vector<std::string> command, bool stop_when_ready) {
  const pid_t pid = ::fork();
  if (pid != 0)
    return pid;
  auto options = cluster::supervisor_options{
      .spec = tests::spec_of(R"("stub": { "role": "stub", "cells": 4 })", R"("timeouts": { "supervisor_ms": 2500 })"),
      .job = "test",
      .root = root,
      .rank_command = std::move(command),
      .take_signals = true,
      .on_progress = {},
      .on_ready = {},
      .on_log = {},
  };
  cluster::supervisor* running = nullptr;
  options.on_ready = [&] {
    if (stop_when_ready)
      running->request_stop("enough");
  };
  auto prepared = cluster::supervisor::prepare(std::move(options));
  if (!prepared)
    ::_exit(100);
  running = prepared->get();
  ::_exit(static_cast<int>(running->run().code));
}

} // namespace

TEST_CASE("C13: a supervisor that is killed leaves no process, whenever it dies") {
  // A rank kills it at the moment; the death pipe alone, the parent-death signal alone, or both end the ranks.
  for (const auto* ends_by : {"both", "pipe", "signal"})
    for (const auto* moment : {"0:spawned", "3:joined", "1:agreeing", "2:ready", "1:draining"}) {
      CAPTURE(ends_by);
      CAPTURE(moment);
      tests::run_directory root;
      tests::reaper orphans;
      const auto pid = start_supervisor(root.path(),
                                        {std::string{TROUPE_BINARY_DIR} + "/troupe_stub_child", "--ends-by", ends_by,
                                         "--do", std::string{moment} + ":kill-supervisor", "--do", "2:draining:stay"},
                                        std::string_view{moment} == "1:draining");
      int status = 0;
      REQUIRE(::waitpid(pid, &status, 0) == pid);
      CHECK(WIFSIGNALED(status));
      CHECK(WTERMSIG(status) == SIGKILL);

      CHECK(orphans.sees_all_end(base::now() + 5s));

      // and the job may be run again
      const auto record = cluster::find_job(root.path(), "test");
      REQUIRE(record);
      CHECK_FALSE(record->running);
      CHECK_FALSE(cluster::open_supervisor(*record));
    }
}

TEST_CASE("C13: ranks leave a supervisor that is stopped, whenever it is stopped") {
  for (const auto* moment : {"0:spawned", "3:spawned", "3:joined", "1:agreeing", "2:warm", "2:ready"}) {
    CAPTURE(moment);
    tests::run_directory root;
    tests::reaper orphans;
    const auto pid = start_supervisor(root.path(),
                                      {std::string{TROUPE_BINARY_DIR} + "/troupe_stub_child", "--ends-by", "pulse",
                                       "--do", std::string{moment} + ":stop-supervisor"},
                                      false);
    int status = 0;
    REQUIRE(::waitpid(pid, &status, WUNTRACED) == pid);
    REQUIRE(WIFSTOPPED(status));
    CHECK(tests::holds_within(60s, [&] { return tests::ranks_of(pid).empty(); }));
    ::kill(pid, SIGKILL);
    CHECK(orphans.sees_all_end(base::now() + 5s));
  }
}

TEST_CASE("C13: a rank that has been started and never hears of its job leaves a silent supervisor all the same") {
  auto death = cluster::make_pipe();
  auto control = cluster::make_stream_pair();
  auto pulse = cluster::supervisor_pulse::make();
  REQUIRE((death && control && pulse));
  const std::array given{control->second.get(), death->read.get(), pulse->fd()};
  auto rank = cluster::child_process::spawn({std::string{TROUPE_BINARY_DIR} + "/troupe", "rank", "--rank", "0",
                                             "--control-fd", "3", "--death-fd", "4", "--pulse-fd", "5",
                                             "--supervisor-ms", "300", "--supervisor-pid", std::to_string(::getpid())},
                                            given);
  REQUIRE_MESSAGE(rank, rank.error().what);
  pollfd process{rank->pidfd(), POLLIN, 0};
  const auto began = base::now();
  REQUIRE(::poll(&process, 1, 60'000) == 1);
  const auto end = rank->reap();
  REQUIRE(end);
  CHECK(end->number == static_cast<int>(base::exit_code::supervisor_gone));
  CHECK(base::now() - began < protocols::limits::launch_deadline); // it did not wait for its first frame
}

TEST_CASE("C45: SIGTERM to the supervisor's process ends every rank") {
  tests::run_directory root;
  tests::reaper orphans;
  const auto pid = start_supervisor(
      root.path(), {std::string{TROUPE_BINARY_DIR} + "/troupe_stub_child", "--do", "2:ready:term-supervisor"}, false);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(orphans.sees_all_end(base::now() + 5s));
}
