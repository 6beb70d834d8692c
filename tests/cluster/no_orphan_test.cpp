#include <doctest/doctest.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clock.hpp"
#include "runtime/cluster/supervisor.hpp"
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
      .spec = tests::spec_of(R"("stub": { "role": "stub", "cells": 4 })"),
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
