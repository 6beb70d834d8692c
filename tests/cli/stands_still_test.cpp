#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "tests/cli/golden_pages.hpp"

using namespace troupe;
using namespace troupe::tests;

namespace {

/// Holds one thread of another process, as a lost wake-up or a page that does not come would, until it is let go or its
/// process ends.
class held_thread {
public:
  explicit held_thread(pid_t thread) {
    std::array<int, 2> ready{};
    REQUIRE(::pipe2(ready.data(), O_CLOEXEC) == 0);
    tracer_ = ::fork();
    if (tracer_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      trace(thread, ready[1]);
    }
    ::close(ready[1]);
    char word = 0;
    held_ = ::read(ready[0], &word, 1) == 1;
    ::close(ready[0]);
  }
  ~held_thread() {
    ::kill(tracer_, SIGKILL);
    ::waitpid(tracer_, nullptr, 0);
  }
  held_thread(const held_thread&) = delete;
  held_thread& operator=(const held_thread&) = delete;

  bool is_held() const noexcept { return held_; } ///< false: this machine lets nobody

private:
  [[noreturn]] static void trace(pid_t thread, int ready) {
    if (::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0 ||
        ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) != 0 || ::waitpid(thread, nullptr, __WALL) != thread)
      ::_exit(1);
    if (::write(ready, "h", 1) != 1)
      ::_exit(1);
    while (::waitpid(thread, nullptr, __WALL) == thread) { // until its process has ended
    }
    ::_exit(0);
  }

  pid_t tracer_ = -1;
  bool held_ = false;
};

/// Those that have this name, in the order in which they were made.
std::vector<pid_t> threads_named(pid_t process, std::string_view name) {
  std::vector<pid_t> found;
  for (const auto& each : std::filesystem::directory_iterator{"/proc/" + std::to_string(process) + "/task"})
    if (content_of(each.path() / "comm") == std::string{name} + "\n")
      found.push_back(std::stoi(each.path().filename()));
  std::ranges::sort(found);
  return found;
}

struct rank_now {
  pid_t pid = 0;
  std::uint64_t generation = 0;
  bool serves = false;
};

rank_now look(const std::string& job_directory, const std::string& label) {
  const auto status = nlohmann::json::parse(std::ifstream{job_directory + "/status.json"}, nullptr, false);
  if (!status.is_discarded())
    for (const auto& rank : status.at("ranks"))
      if (rank.at("label") == label)
        return {rank.at("pid"), rank.at("generation"), rank.at("state") == "ready" && status.at("state") == "ready"};
  return {};
}

} // namespace

TEST_CASE("K13: a thread of a rank that stands still outside a step is found, named, and the rank comes back") {
  struct thread_of {
    const char* rank;
    const char* name;
    bool last; ///< of those with that name
    const char* words;
  };
  const scratch_folder here;
  const auto spec = here.write("spec.json", reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                                            "prefill": {"role": "prefill", "tensor_parallel": 2},
                                                            "decode": {"role": "decode"}})",
                                                        R"(, "timeouts": {"progress_ms": 2000},
                                                             "restart": {"intensity": 100})"));
  const auto directory = here / "jobs" + "/" + here.job();
  command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 60s));
  for (const auto& of : {thread_of{"decode.0", "troupe-copy", false, "the transfer engine stands still"},
                         thread_of{"prefill.0/t1", "caf.actor", true, "an executor stands still between two steps"},
                         thread_of{"encode.0", "caf.actor", true, "an executor stands still between two steps"},
                         thread_of{"decode.0", "caf.clock", false, "clock or workers stand still"},
                         thread_of{"encode.0", "troupe", false, "main thread stands still"}}) {
    CAPTURE(of.rank);
    CAPTURE(of.name);
    const auto before = look(directory, of.rank);
    REQUIRE(before.serves);
    const auto threads = threads_named(before.pid, of.name);
    REQUIRE_FALSE(threads.empty());
    {
      const held_thread held{of.last ? threads.back() : threads.front()};
      if (!held.is_held()) {
        MESSAGE("not judged: ptrace is not allowed here");
        return;
      }
      CHECK(holds_within(60s, [&] {
        const auto now = look(directory, of.rank);
        return now.serves && now.generation > before.generation;
      }));
    }
    CHECK(has(content_of(directory + "/logs/all.log"), of.words));
  }
  CHECK(run_troupe({"ask", "--job", here.job(), "--run-dir", here / "jobs", "--prompt", "What is this?"}, 60s)
            .exit_code == 0);
}
