#include <doctest/doctest.h>

#include <unistd.h>

#include "runtime/cluster/job_directory.hpp"
#include "runtime/cluster/log_file.hpp"
#include "tests/cli/command.hpp"

using namespace troupe;
using namespace troupe::tests;

namespace {

/// This test is the supervisor of a job, and writes its log.
struct logged_job {
  explicit logged_job(const scratch_folder& here)
      : root(here / "jobs"), directory(take(root)), log(directory.paths().log_of_all(), 64) {}

  static cluster::job_directory take(const std::string& root) {
    const auto spec = cluster::read_spec_text(
        R"({ "troupe": 1, "name": "logged", "model": { "path": "/nowhere" }, "pools": { "stub": { "role": "stub" } } })",
        "/tmp/logged.json");
    REQUIRE(spec);
    const auto made = cluster::run_root(root);
    REQUIRE(made);
    auto taken = cluster::job_directory::take(*made, "logged", *spec, 1);
    REQUIRE(taken);
    return std::move(*taken);
  }
  std::vector<std::string> command_line(const std::string& more = {}) const {
    std::vector<std::string> words{"logs", "--job", "logged", "--run-dir", root};
    if (!more.empty())
      words.push_back(more);
    return words;
  }
  void write(int first, int last) {
    for (int i = first; i <= last; ++i) {
      log.line({"line ", std::to_string(i), " of the log"});
      log.flush();
    }
  }

  std::string root;
  cluster::job_directory directory;
  cluster::log_file log;
};

} // namespace

TEST_CASE("logs prints the old file, then the present one") {
  const scratch_folder here;
  logged_job job{here};
  job.write(1, 5); // 3 of 18 bytes in a file

  const auto end = run_troupe(job.command_line());

  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  CHECK(end.out == "line 1 of the log\nline 2 of the log\nline 3 of the log\nline 4 of the log\nline 5 of the log\n");
}

TEST_CASE("logs --follow goes on in the next file when one is full") {
  const scratch_folder here;
  logged_job job{here};
  job.write(1, 2);
  command following{job.command_line("--follow")};
  REQUIRE(following.prints("line 2 of the log"));

  std::string expected = "line 1 of the log\nline 2 of the log\n";
  for (int i = 3; i <= 12; ++i) {
    job.write(i, i);
    const auto line = "line " + std::to_string(i) + " of the log\n";
    expected += line;
    REQUIRE(following.prints(line));
  }
  CHECK(following.out() == expected);
}
