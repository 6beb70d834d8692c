#include "runtime/cluster/job_directory.hpp"

#include <doctest/doctest.h>

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clock.hpp"
#include "runtime/cluster/process.hpp"
#include "tests/cluster/run_directory.hpp"

using namespace troupe;
using namespace std::chrono_literals;
using cluster::job_directory;
using tests::run_directory;
using tests::spec_of;
using tests::text_of;

namespace {

const std::string one_stub = R"("stub": { "role": "stub" })";

std::string refusal(const std::filesystem::path& root, const std::string& job = "test") {
  const auto taken = job_directory::take(root, job, spec_of(one_stub), 1);
  return taken ? "" : taken.error().what;
}

} // namespace

TEST_CASE("a run root that another may write to, or that cannot be made, is refused in one line") {
  run_directory root;
  const auto open_to_all = root.path() / "open";
  std::filesystem::create_directory(open_to_all);
  ::chmod(open_to_all.c_str(), 0770);
  CHECK(cluster::run_root(open_to_all).error().what ==
        "others may write to the run directory " + open_to_all.string() + " (mode 0770); chmod 0700 it");

  std::ofstream{root.path() / "file"} << "text";
  CHECK(cluster::run_root(root.path() / "file").error().what.find("is no directory") != std::string::npos);
  CHECK(cluster::run_root(root.path() / "file/below").error().what.find("Not a directory") != std::string::npos);

  // a link would let its owner choose where the sockets go
  std::filesystem::create_directory_symlink(root.path(), root.path() / "link");
  const auto link = root.path() / "link";
  CHECK(cluster::run_root(link).error().what ==
        "the run directory " + link.string() + " is a symbolic link; name the directory itself");

  CHECK(cluster::run_root(link / "").error().what ==
        "the run directory " + link.string() + " is a symbolic link; name the directory itself");

  const auto fresh = cluster::run_root(root.path() / "fresh");
  REQUIRE(fresh);
  struct stat is {};
  REQUIRE(::stat(fresh->c_str(), &is) == 0);
  CHECK((is.st_mode & 07777) == 0700);
}

TEST_CASE("a path too long for a socket, and a name that is none, are refused before anything is made") {
  run_directory root;
  const auto deep = root.path() / std::string(90, 'd');
  std::filesystem::create_directory(deep);
  CHECK(refusal(deep).find("at most 107 are possible; use a shorter --run-dir or name") != std::string::npos);
  CHECK(std::filesystem::is_empty(deep));
  // The longest is the supervisor's own socket, before it has its name.
  const auto most = 107 - (root.path().string() + "//test/control.sock.new").size();
  for (const auto more : {0U, 1U}) {
    const auto edge = root.path() / std::string(most + more, 'e');
    std::filesystem::create_directory(edge);
    CHECK(refusal(edge).empty() == (more == 0));
  }
  for (const auto* name : {"..", "", "a/b", "Upper", ".hidden"})
    CHECK(refusal(root.path(), name).find("a job's name is") == 0);
}

TEST_CASE("a directory that is no job's is not cleared") {
  run_directory root;
  std::filesystem::create_directories(root.path() / "test/thesis");
  ::chmod((root.path() / "test").c_str(), 0700);
  std::ofstream{root.path() / "test/thesis/one"} << "text";
  const auto why = refusal(root.path());
  CHECK(why.find("holds files and is no job's: it has no file lock") != std::string::npos);
  CHECK(text_of(root.path() / "test/thesis/one") == "text");
  CHECK_FALSE(std::filesystem::exists(root.path() / "test/lock"));

  std::filesystem::remove_all(root.path() / "test/thesis");
  CHECK(refusal(root.path()).empty()); // empty: it may become one
}

TEST_CASE("jobs are listed with who runs them, what a dead supervisor left is cleared by the next") {
  run_directory root;
  {
    const auto taken = job_directory::take(root.path(), "test", spec_of(one_stub), 1);
    REQUIRE_MESSAGE(taken, taken.error().what);
    REQUIRE(taken->write_status("{}"));
    std::ofstream{taken->paths().log_of(protocols::rank_id{0})} << "a line\n";
    std::ofstream{taken->paths().front_socket()} << "stale";

    const auto jobs = cluster::list_jobs(root.path());
    REQUIRE(jobs);
    REQUIRE(jobs->size() == 1);
    const auto& job = jobs->front();
    CHECK(job.name == "test");
    CHECK(job.running);
    CHECK(job.supervisor_pid == ::getpid());
    CHECK(job.supervisor_start == cluster::start_time_of(::getpid()));
    CHECK(job.spec_path == "/tmp/test.json");
    CHECK(job.status == "{}");
    CHECK(job.started.size() == std::string_view{"2026-11-21T02:25:14Z"}.size());
    CHECK(cluster::open_supervisor(job));
    CHECK(cluster::parse_effective_spec(text_of(job.paths.file("spec.json"))));
  }
  const auto left = cluster::find_job(root.path(), "test");
  REQUIRE(left);
  CHECK_FALSE(left->running);
  CHECK(text_of(left->paths.log_of(protocols::rank_id{0})) == "a line\n"); // for `logs`

  const auto again = job_directory::take(root.path(), "test", spec_of(one_stub), 1);
  REQUIRE(again);
  CHECK_FALSE(std::filesystem::exists(again->paths().front_socket()));
  CHECK_FALSE(std::filesystem::exists(again->paths().log_of(protocols::rank_id{0})));
  CHECK(std::filesystem::is_directory(again->paths().directory / "logs"));

  CHECK(cluster::find_job(root.path(), "other").error().what ==
        "no job 'other' in " + root.path().string() + "; there: test");
}

TEST_CASE("a supervisor is found by pid and start time, and its end is waited for") {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::pause();
    ::_exit(0);
  }
  cluster::job_record job;
  job.supervisor_pid = pid;
  job.supervisor_start = *cluster::start_time_of(pid);
  const auto handle = cluster::open_supervisor(job);
  REQUIRE(handle);
  CHECK_FALSE(cluster::wait_for_end(*handle, base::now()));

  auto another = job;
  another.supervisor_start += 1; // the number was used again
  CHECK_FALSE(cluster::open_supervisor(another));

  CHECK(cluster::send_signal(*handle, SIGKILL));
  CHECK(cluster::wait_for_end(*handle, base::now() + 5s));
  CHECK_FALSE(cluster::open_supervisor(job)); // ended, not yet reaped
  ::waitpid(pid, nullptr, 0);
  CHECK_FALSE(cluster::open_supervisor(job));
}
