#include "runtime/cluster/rank_pulse.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "protocols/limits.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/cluster/thread_state.hpp"
#include "tests/cluster/run_directory.hpp"

using namespace troupe;
using namespace troupe::cluster;
using troupe::tests::run_directory;
using namespace std::chrono_literals;
using verdict = protocols::liveness_judge::liveness;

namespace {

/// A process whose main thread sleeps and whose watchdog's thread either wants to run all the time or waits.
class process {
public:
  enum class watchdog { runs, waits };

  explicit process(watchdog what) : pid_(::fork()) {
    if (pid_ != 0)
      return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::thread thread{[what] {
      ::pthread_setname_np(::pthread_self(), watchdog_thread);
      for (std::atomic<unsigned> rounds = 0;; ++rounds)
        if (what == watchdog::waits)
          ::pause();
    }};
    for (;;)
      ::pause();
  }
  ~process() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  process(const process&) = delete;
  process& operator=(const process&) = delete;

  pid_t pid() const noexcept { return pid_; }
  void stop() const noexcept { ::kill(pid_, SIGSTOP); }
  bool comes_to(thread_state wanted) const {
    const auto until = std::chrono::steady_clock::now() + 30s;
    while (std::chrono::steady_clock::now() < until) {
      if (state_of_thread(pid_, watchdog_thread) == wanted)
        return true;
      std::this_thread::yield();
    }
    return false;
  }

private:
  pid_t pid_;
};

/// When a rank of that process, which has beaten once and never since, is given up. Time is the test's own.
protocols::duration given_up_after(const process& of) {
  const run_directory here;
  base::flight_recorder record;
  REQUIRE(record.open(here.path() / "flight", {protocols::rank_id{1}, protocols::generation{1}, "stub.1", {}}, 64));
  record.beat();
  rank_pulse pulse{here.path() / "flight", {}}; // suspect 1 s, kill 2 s
  const protocols::time_point began{1h};
  for (auto now = began; now < began + 30s; now += 50ms)
    if (pulse.read(of.pid(), now).is == verdict::silent)
      return now - began;
  return 0s;
}

} // namespace

TEST_CASE("C4: a thread that could run, one that is stopped and one that waits are told apart by name") {
  const process busy{process::watchdog::runs};
  CHECK(busy.comes_to(thread_state::runnable));
  busy.stop();
  CHECK(busy.comes_to(thread_state::stopped));
  const process idle{process::watchdog::waits};
  CHECK(idle.comes_to(thread_state::other));
  CHECK_FALSE(state_of_thread(idle.pid(), "no such thread"));
}

TEST_CASE("C1, C4: threads that end while the kernel is asked about them are passed over") {
  std::atomic<bool> over = false;
  std::vector<std::thread> makers;
  for (int i = 0; i < 2; ++i)
    makers.emplace_back([&] {
      while (!over)
        std::thread{[] {}}.join();
    });
  for (int i = 0; i < 5'000; ++i)
    REQUIRE_FALSE(state_of_thread(::getpid(), "no such thread"));
  over = true;
  for (auto& each : makers)
    each.join();
}

TEST_CASE("C4, C13: a rank that is starved has more time than one that is stopped or does not come back") {
  const process starved{process::watchdog::runs};
  REQUIRE(starved.comes_to(thread_state::runnable));
  CHECK(given_up_after(starved) == protocols::limits::starved_patience * 2s);
  starved.stop();
  REQUIRE(starved.comes_to(thread_state::stopped));
  CHECK(given_up_after(starved) == 2s);
  const process waits{process::watchdog::waits};
  REQUIRE(waits.comes_to(thread_state::other));
  CHECK(given_up_after(waits) == 2s);
}
