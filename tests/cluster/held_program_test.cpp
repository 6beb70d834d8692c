#include "runtime/cluster/held_program.hpp"

#include <doctest/doctest.h>

#include <poll.h>

#include "run_directory.hpp"
#include "runtime/cluster/rank_launcher.hpp"

using namespace troupe;
using namespace troupe::protocols;

namespace {

void write_file(const std::filesystem::path& file, const std::string& text) {
  std::ofstream{file} << text;
}

/// As an installer does it: written beside, moved over.
void replace(const std::filesystem::path& file, const std::filesystem::path& by) {
  auto fresh = file;
  fresh += ".new";
  std::filesystem::copy_file(by, fresh);
  std::filesystem::rename(fresh, file);
}

} // namespace

TEST_CASE("K18: the files that a job began with are held, whatever has taken their names") {
  const tests::run_directory here;
  const auto program = here.path() / "troupe";
  std::filesystem::copy_file("/bin/true", program);
  write_file(here.path() / "libtroupe_one.so", "first");
  const auto held = cluster::held_program::hold(program);
  REQUIRE(held);

  write_file(here.path() / "second", "second");
  replace(here.path() / "libtroupe_one.so", here.path() / "second");

  REQUIRE(held->plugins().size() == 1);
  const auto& plugin = held->plugins().front();
  CHECK(plugin.name == "one");
  CHECK(tests::text_of("/proc/self/fd/" + std::to_string(plugin.file.get())) == "first");
}

TEST_CASE("K18: a rank that is started again runs the program that the job began with") {
  const tests::run_directory here;
  const auto program = here.path() / "rank";
  std::filesystem::copy_file("/bin/true", program);
  auto launcher = cluster::rank_launcher::make({.command = {program.string()},
                                                .job = "job",
                                                .host = "here",
                                                .paths = cluster::job_paths{here.path()},
                                                .spec_json = "{}",
                                                .supervisor_ms = 60'000,
                                                .drills = false,
                                                .rules = {}});
  REQUIRE(launcher);
  rank_plan rank;
  rank.label = "stub.0";
  const auto exit_code_of = [&](generation born) {
    auto started = launcher->launch(rank, born, first_epoch);
    REQUIRE(started);
    std::vector<pollfd> watched;
    (void)(*started)->arm(watched);
    REQUIRE(::poll(watched.data(), 1, 10'000) == 1); // the first is its process
    (*started)->disarm();
    REQUIRE((*started)->reap());
    return (*started)->end()->number;
  };
  CHECK(exit_code_of(generation{1}) == 0);
  replace(program, "/bin/false");
  CHECK(exit_code_of(generation{2}) == 0);
}
