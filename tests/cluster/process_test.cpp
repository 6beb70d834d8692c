#include "runtime/cluster/process.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

using namespace troupe;
using cluster::child_process;
using protocols::rank_end;

namespace {

struct ended {
  rank_end end;
  std::string output;
};

/// Runs `script` to its end; `control` and `death` stand for the descriptors that a rank inherits.
ended run(const std::string& script, int control, int death) {
  auto child = child_process::spawn({"/bin/sh", "-c", script}, std::array{control, death});
  REQUIRE_MESSAGE(child, child.error().what);
  pollfd process{child->pidfd(), POLLIN, 0};
  REQUIRE(::poll(&process, 1, 10'000) == 1);
  const auto end = child->reap();
  REQUIRE(end);
  CHECK_FALSE(child->reap()); // once
  std::string output(4096, '\0');
  const auto got = ::read(child->output(), output.data(), output.size());
  output.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return {*end, output};
}

struct descriptors {
  cluster::pipe_ends death = *cluster::make_pipe();
  std::pair<base::unique_fd, base::unique_fd> control = *cluster::make_stream_pair();
};

} // namespace

TEST_CASE("a process's end is its exit code or its signal, in words where the table knows it") {
  descriptors given;
  const auto of = [&](const char* script) {
    return run(script, given.control.second.get(), given.death.read.get()).end;
  };
  CHECK(of("exit 0").is_orderly());
  const auto executor = of("exit 74");
  CHECK(executor.how == rank_end::kind::exited);
  CHECK(executor.number == 74);
  CHECK(executor.words == "executor");
  CHECK(of("exit 72").is_consequence());
  const auto killed = of("kill -9 $$");
  CHECK(killed.how == rank_end::kind::signalled);
  CHECK(killed.number == SIGKILL);
  CHECK(killed.words == "Killed");
}

TEST_CASE("C21: a rank has nothing open but what it was given, whatever the supervisor holds") {
  descriptors given;
  // forgotten without close-on-exec, as a library might leave it
  const base::unique_fd leaked{::open("/dev/null", O_RDONLY)};
  // a number among the targets must not be overwritten before it is copied
  REQUIRE(leaked.get() > 2);
  const auto seen = run("cd /proc/self/fd; for f in *; do [ -e $f ] && echo -n \"$f=$(readlink $f) \"; done",
                        given.control.second.get(), given.death.read.get());
  CAPTURE(seen.output);
  CHECK(seen.output.starts_with("0=/dev/null 1=pipe:"));
  CHECK(seen.output.find(" 3=socket:") != std::string::npos);
  CHECK(seen.output.find(" 4=pipe:") != std::string::npos);
  for (const auto* other : {" 5=", " 6=", " 7=", " 8=", " 9=", " 16=", " 17="})
    CHECK(seen.output.find(other) == std::string::npos);
}

TEST_CASE("a rank leads its own process group, and signals that the supervisor blocks or ignores are its own again") {
  descriptors given;
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto seen = run("set -- $(cat /proc/self/stat); echo group $5; echo self $$; grep SigBlk /proc/self/status",
                        given.control.second.get(), given.death.read.get());
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);

  const auto value_of = [&](const std::string& name) {
    const auto begin = seen.output.find(name) + name.size();
    return seen.output.substr(begin, seen.output.find('\n', begin) - begin);
  };
  CHECK(value_of("group ") == value_of("self "));
  CHECK(value_of("SigBlk:\t") == "0000000000000000");
}

TEST_CASE("K6: a rank whose supervisor does not read waits for nobody, nor does what it has started") {
  descriptors given;
  auto child =
      child_process::spawn({"/bin/sh", "-c", "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; exit 7"},
                           std::array{given.control.second.get(), given.death.read.get()});
  REQUIRE_MESSAGE(child, child.error().what);
  pollfd process{child->pidfd(), POLLIN, 0};
  REQUIRE(::poll(&process, 1, 60'000) == 1); // while nobody reads
  CHECK(child->reap()->number == 7);
}

TEST_CASE("a program that is not there is an error with its path") {
  descriptors given;
  const auto child = child_process::spawn({"/nowhere/rank"}, {});
  REQUIRE_FALSE(child);
  CHECK(child.error().what == "cannot start /nowhere/rank: No such file or directory");
}

TEST_CASE("binding to a supervisor that has ended already fails") {
  auto death = cluster::make_pipe();
  REQUIRE(death);
  const auto outcome_of = [&](auto&& body) {
    const auto pid = ::fork();
    if (pid == 0)
      ::_exit(body() ? 0 : 1);
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
  };
  const auto self = ::getpid();
  CHECK(outcome_of([&] { return cluster::bind_to_supervisor(death->read.get(), self).has_value(); }) == 0);
  CHECK(outcome_of([&] { return cluster::bind_to_supervisor(death->read.get(), 1).has_value(); }) == 1);
  death->write.reset();
  CHECK(outcome_of([&] { return cluster::bind_to_supervisor(death->read.get(), self).has_value(); }) == 1);
}

TEST_CASE("the start time tells a process from a later one of the same number") {
  const auto mine = cluster::start_time_of(::getpid());
  REQUIRE(mine);
  CHECK(cluster::start_time_of(::getpid()) == mine);
  CHECK_FALSE(cluster::start_time_of(0));
}
