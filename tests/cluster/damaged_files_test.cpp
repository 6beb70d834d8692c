#include <doctest/doctest.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "runtime/base/flight_files.hpp"
#include "runtime/cluster/job_status.hpp"
#include "runtime/cluster/supervisor.hpp"
#include "tests/cluster/run_directory.hpp"

using namespace troupe;
using tests::run_directory;
using tests::spec_of;
using tests::text_of;

namespace {

namespace fs = std::filesystem;

enum class damage { bytes, cut, grown, emptied, folder, pipe, unreadable, gone };
constexpr damage every_damage[] = {damage::bytes,  damage::cut,  damage::grown,      damage::emptied,
                                   damage::folder, damage::pipe, damage::unreadable, damage::gone};

void strike(const fs::path& file, damage how, std::mt19937& random) {
  std::error_code ignored;
  const auto size = fs::file_size(file, ignored);
  switch (how) {
  case damage::bytes: {
    std::fstream out{file, std::ios::in | std::ios::out | std::ios::binary};
    for (int i = 0; i < 40 && size > 0; ++i) {
      out.seekp(static_cast<std::streamoff>(random() % size));
      out.put(static_cast<char>(random()));
    }
    return;
  }
  case damage::cut:
    return fs::resize_file(file, size / 2, ignored);
  case damage::grown:
    return fs::resize_file(file, std::uintmax_t{1} << 32, ignored); // sparse
  case damage::emptied:
    return fs::resize_file(file, 0, ignored);
  case damage::folder:
    fs::remove(file, ignored);
    fs::create_directory(file, ignored);
    return;
  case damage::pipe:
    fs::remove(file, ignored);
    ::mkfifo(file.c_str(), 0600);
    return;
  case damage::unreadable:
    return fs::permissions(file, fs::perms::none, ignored);
  case damage::gone:
    fs::remove(file, ignored);
    return;
  }
}

std::vector<fs::path> files_of(const fs::path& job) {
  std::vector<fs::path> files;
  for (const auto& each : fs::recursive_directory_iterator{job})
    if (each.is_regular_file() && each.path().filename() != "lock")
      files.push_back(each.path());
  std::ranges::sort(files);
  return files;
}

/// Folders and regular files: what else a job has in its directory is sockets that nobody listens at any more.
void copy_files(const fs::path& from, const fs::path& to) {
  fs::create_directories(to);
  for (const auto& each : fs::directory_iterator{from})
    if (each.is_directory())
      copy_files(each.path(), to / each.path().filename());
    else if (each.is_regular_file())
      fs::copy_file(each.path(), to / each.path().filename());
}

const std::string one_of_each = R"("front": { "role": "front" }, "encode": { "role": "encode" },
                                   "prefill": { "role": "prefill" }, "decode": { "role": "decode" })";

/// A job of stubs; `when_ready` does its worst, then rank 3 is killed, and the job is ended once it serves again.
cluster::cluster_outcome play(const fs::path& root, const std::function<void(const fs::path& job)>& when_ready) {
  cluster::supervisor* running = nullptr;
  cluster::supervisor_options options{.spec = spec_of(one_of_each),
                                      .job = "test",
                                      .root = root,
                                      .rank_command = {std::string{TROUPE_BINARY_DIR} + "/troupe_stub_child"},
                                      .take_signals = false,
                                      .on_progress =
                                          [&](std::string_view line) {
                                            if (line.find("ready again after") != line.npos)
                                              running->request_stop("enough");
                                          },
                                      .on_ready = {},
                                      .on_log = {}};
  options.on_ready = [&] {
    const auto job = running->paths().directory;
    const auto victim = cluster::parse_job_status(text_of(job / "status.json"))->ranks.at(3).pid;
    when_ready(job);
    ::kill(victim, SIGKILL);
  };
  auto prepared = cluster::supervisor::prepare(std::move(options));
  REQUIRE_MESSAGE(prepared, prepared.error().what);
  running = prepared->get();
  return running->run();
}

} // namespace

TEST_CASE("K6: whatever becomes of the files of a running job, its supervisor restarts a cell and drains") {
  for (const auto how : every_damage) {
    CAPTURE(static_cast<int>(how));
    const run_directory root;
    std::mt19937 random{static_cast<unsigned>(how) + 1};
    const auto outcome = play(root.path(), [&](const fs::path& job) {
      for (const auto& file : files_of(job))
        strike(file, how, random);
    });
    CHECK(outcome.code == base::exit_code::done);
    CHECK(outcome.first_cause.empty());
  }
}

TEST_CASE("K6: no file of a job's directory ends who reads it, whatever stands in it") {
  const run_directory root;
  play(root.path(), [](const fs::path&) {});
  const auto whole = root.path() / "test";
  for (unsigned seed = 1; seed <= 60; ++seed)
    for (const auto how : every_damage) {
      CAPTURE(seed);
      CAPTURE(static_cast<int>(how));
      if (how != damage::bytes && seed > 1)
        continue; // the same each time
      std::mt19937 random{seed};
      const run_directory other;
      copy_files(whole, other.path() / "test");
      for (const auto& file : files_of(other.path() / "test"))
        strike(file, how, random);

      const auto jobs = cluster::list_jobs(other.path());
      REQUIRE(jobs);
      CHECK(jobs->size() == 1);
      if (how != damage::unreadable ||
          ::geteuid() != 0) // nothing is unreadable to root, and the "supervisor" is this test
        CHECK_FALSE(cluster::open_supervisor(jobs->front()));
      (void)cluster::parse_job_status(jobs->front().status);
      std::vector<std::string> problems;
      const auto stories = base::read_flights(jobs->front().paths.flight_folder(), problems);
      REQUIRE(stories);
      for (const auto& problem : problems)
        CHECK(problem.find(other.path().string()) != std::string::npos); // by name
    }
}

#ifdef __SANITIZE_THREAD__ // which writes a file in every process that starts
constexpr bool processes_start_without_room = false;
#else
constexpr bool processes_start_without_room = true;
#endif

TEST_CASE("K6: a supervisor whose disk is full keeps its ranks, restarts a cell, and writes what it can later" *
          doctest::skip(!processes_start_without_room)) {
  // No file may grow while the limit holds, as where a disk has no room.
  const auto before = ::signal(SIGXFSZ, SIG_IGN);
  rlimit free_room{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &free_room) == 0);
  const run_directory root;
  const auto outcome = play(root.path(), [&](const fs::path&) {
    const rlimit no_room{0, free_room.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &no_room);
  });
  ::setrlimit(RLIMIT_FSIZE, &free_room);
  ::signal(SIGXFSZ, before);
  CHECK(outcome.code == base::exit_code::done);
}
