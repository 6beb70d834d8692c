#include <doctest/doctest.h>

#include <filesystem>

#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

std::string reader() {
  return TROUPE_SOURCE_DIR "/deploy/specs/reader.json";
}

} // namespace

TEST_CASE("A job is brought up, asked, listed, its logs are read, and it is brought down") {
  const scratch_folder here;
  const auto& page = golden_pages().front();
  command job{{"up", reader(), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 20s));
  const auto ranks = ranks_of(job.pid());
  CHECK_FALSE(ranks.empty());
  CHECK(has(job.out(), here.job()));
  CHECK(has(job.out(), "troupe ask"));
  CHECK(has(job.out(), "troupe down"));

  SUBCASE("asked twice, the second time as JSON") {
    const auto words = run_troupe(
        {"ask", "--job", here.job(), "--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt});
    CAPTURE(words.err);
    CHECK(words.exit_code == 0);
    CHECK(words.out == page.text + "\n");
    const auto lines =
        run_troupe({"ask", "--job", here.job(), "--run-dir", here / "jobs", "--pages", golden_list(here), "--json"});
    CHECK(lines.exit_code == 0);
    CHECK(json_lines(lines.out).size() == golden_pages().size());
  }
  SUBCASE("listed with its ranks and their pids and devices") {
    const auto listed = run_troupe({"ps", "--json", "--run-dir", here / "jobs"});
    REQUIRE(listed.exit_code == 0);
    bool found = false;
    for (const auto& each : json_lines(listed.out)) {
      if (each["job"] != here.job())
        continue;
      found = true;
      CHECK(each["supervisor_pid"] == job.pid());
      CHECK(each["ranks"].size() == ranks.size());
      for (const auto& rank : each["ranks"]) {
        CHECK(std::ranges::count(ranks, rank["pid"].get<pid_t>()) == 1);
        CHECK(rank["state"] == "ready");
        CHECK(rank["device"] == "cpu");
      }
    }
    CHECK(found);
    CHECK(has(run_troupe({"ps", "--run-dir", here / "jobs"}).out, here.job()));
  }
  SUBCASE("its logs are read, of all ranks or of one") {
    CHECK(run_troupe({"logs", "--job", here.job(), "--run-dir", here / "jobs"}).exit_code == 0);
    CHECK(run_troupe({"logs", "--job", here.job(), "--run-dir", here / "jobs", "--rank", "0"}).exit_code == 0);
    const auto none = run_troupe({"logs", "--job", here.job(), "--run-dir", here / "jobs", "--rank", "4000"});
    CHECK(none.exit_code != 0);
    CHECK(has(none.err, "4000"));
  }
  SUBCASE("found without its name as long as it is the only one") {
    const auto only = run_troupe({"ask", "--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt});
    CHECK(only.exit_code == 0);
    command other{{"up", reader(), "--job", here.job() + "-b", "--run-dir", here / "jobs"}};
    REQUIRE(other.prints("is ready", 20s));
    const auto unclear = run_troupe({"ask", "--run-dir", here / "jobs", "--prompt", "a"});
    CHECK(unclear.exit_code == 4);
    CHECK(has(unclear.err, here.job() + ", " + here.job() + "-b"));
    other.signal(SIGTERM);
    CHECK(other.finish(10s).exit_code == 0);
  }
  SUBCASE("a second job of the same name is refused and harms nothing") {
    const auto second = run_troupe({"up", reader(), "--job", here.job(), "--run-dir", here / "jobs"}, 10s);
    CHECK(second.exit_code == 3);
    CHECK(has(second.err, here.job()));
    CHECK(ranks_of(job.pid()) == ranks);
  }

  const auto down = run_troupe({"down", "--job", here.job(), "--run-dir", here / "jobs"});
  CAPTURE(down.err);
  CHECK(down.exit_code == 0);
  const auto end = job.finish(10s);
  CHECK(end.in_time);
  CHECK(end.exit_code == 0);
  CHECK(ranks_of(job.pid()).empty());
  CHECK_FALSE(has(run_troupe({"ps", "--json", "--run-dir", here / "jobs"}).out, here.job()));
}

TEST_CASE("C3, C13: Ctrl-C ends a served job after a drain and leaves no process") {
  const scratch_folder here;
  command job{{"up", reader(), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 20s));
  job.signal(SIGINT);
  const auto end = job.finish(10s);
  CHECK(end.in_time);
  CHECK(end.exit_code == 130);
  CHECK(ranks_of(job.pid()).empty());
}

TEST_CASE("up --json says once, when ready, what it runs") {
  const scratch_folder here;
  command job{{"up", reader(), "--job", here.job(), "--run-dir", here / "jobs", "--json"}};
  REQUIRE(job.prints("}\n", 60s)); // a slow start says on stderr what it waits for
  const auto said = json_lines(job.out());
  REQUIRE(said.size() == 1);
  CHECK(said[0]["job"] == here.job());
  CHECK(said[0]["ranks"].size() == ranks_of(job.pid()).size());
  job.signal(SIGTERM);
  CHECK(job.finish(10s).exit_code == 0);
}

TEST_CASE("Commands for a job that is not there say which jobs are") {
  const scratch_folder here;
  for (const auto* name : {"ask", "logs", "down"}) {
    std::vector<std::string> arguments{name, "--job", "no-such-job", "--run-dir", here / "jobs"};
    if (std::string{name} == "ask")
      arguments.insert(arguments.end(), {"--prompt", "a"});
    const auto end = run_troupe(arguments);
    CAPTURE(name);
    CAPTURE(end.err);
    CHECK(end.exit_code == 4);
    CHECK(lines_in(end.err) == 1);
    CHECK(has(end.err, "no-such-job"));
    CHECK(has(end.err, "none"));
  }
}
