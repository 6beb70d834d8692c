#include <doctest/doctest.h>

#include <random>

#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

namespace fs = std::filesystem;

void scramble(const fs::path& file, unsigned seed) {
  std::mt19937 random{seed};
  const auto size = fs::file_size(file);
  std::fstream out{file, std::ios::in | std::ios::out | std::ios::binary};
  for (int i = 0; i < 200 && size > 0; ++i) {
    // Half of it into the header of a record, where everything is decided.
    out.seekp(static_cast<std::streamoff>(random() % (i % 2 == 0 ? std::min<std::uintmax_t>(size, 4096) : size)));
    out.put(static_cast<char>(random()));
  }
}

/// What no reader can overlook: the first byte is another one.
void spoil_start(const fs::path& file) {
  std::fstream out{file, std::ios::in | std::ios::out | std::ios::binary};
  const auto first = out.get();
  out.seekp(0);
  out.put(static_cast<char>(first ^ 0x5a));
}

} // namespace

TEST_CASE("K6: trace and ps say which files are damaged, and end by an exit code of theirs whatever stands in them") {
  const scratch_folder here;
  command job{{"up", here.write("one.json", reader_spec(one_rank())), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 60s));
  const fs::path whole = here / "jobs" + "/" + here.job();
  for (unsigned seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    const scratch_folder copy;
    const auto damaged = copy / "jobs/damaged";
    fs::create_directories(damaged + "/flight");
    for (const auto* file :
         {"job.json", "status.json", "spec.json", "lock", "flight/supervisor.ring", "flight/r0.g1.ring"}) {
      fs::copy_file(whole / file, fs::path{damaged} / file);
      scramble(fs::path{damaged} / file, seed);
    }
    const bool told = seed % 2 == 1; // of the others, what is hit may happen to change nothing that is read
    if (told)
      spoil_start(damaged + "/flight/r0.g1.ring");
    for (const auto& arguments : {std::vector<std::string>{"trace", damaged, "--first-cause"},
                                  {"trace", damaged, "--first-cause", "--json"},
                                  {"trace", damaged, "--start"},
                                  {"trace", damaged},
                                  {"ps", "--run-dir", copy / "jobs"},
                                  {"ps", "--json", "--run-dir", copy / "jobs"}}) {
      const auto end = run_troupe(arguments, 60s);
      CAPTURE(end.err);
      CHECK(end.in_time);
      CHECK((end.exit_code == 0 || end.exit_code == 3));
      if (told && arguments.front() == "trace")
        CHECK(has(end.err, ".ring"));
    }
  }
  SUBCASE("of the job that runs") {
    for (const auto* file : {"job.json", "status.json", "spec.json"})
      scramble(whole / file, 5);
    CHECK(run_troupe({"ps", "--json", "--run-dir", here / "jobs"}, 60s).exit_code == 0);
    CHECK(run_troupe({"ps", "--run-dir", here / "jobs"}, 60s).exit_code == 0);
  }
  job.signal(SIGTERM);
  CHECK(job.finish(60s).exit_code == 0);
}
