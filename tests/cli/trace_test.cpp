#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

/// Nothing is restarted: a rank that dies ends the job.
std::string reader(const scratch_folder& here) {
  return here.write("reader.json", reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                                   "prefill": {"role": "prefill", "tensor_parallel": 2},
                                                   "decode": {"role": "decode"}})",
                                               R"(, "limits": {"in_flight_max": 2},
                                                  "restart": {"encode": "none", "prefill": "none", "decode": "none"})"));
}
constexpr std::size_t reader_ranks = 5;
constexpr int prefill_worker = 3; ///< prefill.0/t1

std::vector<std::string> long_run(const scratch_folder& here) {
  return {"run",     reader(here),          "--job", here.job(), "--run-dir", here / "jobs",
          "--pages", golden_list(here, 60), "--json"};
}

/// The process of a rank of the job whose supervisor has this pid.
pid_t rank_of(pid_t supervisor, int rank) {
  const auto wanted = " --rank " + std::to_string(rank) + " ";
  for (const auto pid : ranks_of(supervisor)) {
    auto arguments = content_of(std::filesystem::path{"/proc"} / std::to_string(pid) / "cmdline");
    std::replace(arguments.begin(), arguments.end(), '\0', ' ');
    if (has(arguments, wanted))
      return pid;
  }
  return -1;
}

command_end trace(const scratch_folder& here, std::vector<std::string> more) {
  std::vector<std::string> arguments{"trace", "--run-dir", here / "jobs", "--job", here.job()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_troupe(std::move(arguments));
}

} // namespace

TEST_CASE("J1, C8: a killed rank is named with what it was in, by the run that failed and by trace") {
  const scratch_folder here;
  command job{long_run(here)};
  REQUIRE(job.prints("token_ids", 20s));
  const auto victim = rank_of(job.pid(), prefill_worker);
  REQUIRE(victim > 0);
  ::kill(victim, SIGKILL);
  const auto end = job.finish(20s);
  CAPTURE(end.err);
  REQUIRE(end.exit_code == 6);

  const auto block = end.err.find("troupe: first failing rank 3 (prefill.0/t1): ");
  REQUIRE(block != std::string::npos);
  const auto after = std::string_view{end.err}.substr(block);
  CHECK(lines_in(after) == 1 + reader_ranks + 1);
  CHECK(has(after.substr(0, after.find('\n')), "ended by signal 9"));
  CHECK(has(after, "\ntroupe: rank 0 (front): "));
  CHECK(
      after.substr(after.rfind('\n', after.size() - 2) + 1).starts_with("troupe: first cause: rank 3 (prefill.0/t1)"));
  CHECK(has(end.err, "troupe trace " + (here / "jobs") + "/" + here.job()));

  const auto shown = trace(here, {"--first-cause"});
  CAPTURE(shown.out);
  CHECK(shown.exit_code == 0);
  CHECK(shown.err.empty());
  CHECK(shown.out.starts_with("first failing rank 3 (prefill.0/t1): "));
  CHECK(has(shown.out, "first cause: rank 3 (prefill.0/t1)"));

  const auto json = nlohmann::json::parse(trace(here, {"--first-cause", "--json"}).out);
  CHECK(json.at("first") == 3);
  REQUIRE(json.at("ranks").size() == reader_ranks);
  const auto& leader = json.at("ranks").at(2);
  if (leader.at("in").at("action") == "collective") { // else it was not in one when its peer died
    CHECK(leader.at("waits_for") == nlohmann::json::array({3}));
    CHECK(leader.at("in").at("call").get<std::uint64_t>() > 0);
  }
}

TEST_CASE("J2: the timeline shows collectives, frames, transfers and steps of all ranks in order") {
  const scratch_folder here;
  const command_end asked = run_troupe({"run", reader(here), "--prompt", "a", "--image", golden("golden-00.png"),
                                        "--job", here.job(), "--run-dir", here / "jobs"});
  CAPTURE(asked.err);
  REQUIRE(asked.exit_code == 0);

  const auto shown = trace(here, {"--last", "100000"});
  CHECK(shown.exit_code == 0);
  for (const auto* wanted :
       {"all_reduce_sum of group prefill.0, call ", "phase prefill", "a transfer to rank", "bytes arrived of rank",
        "submit to rank", "handover of rank", "announcing a plan", "awaiting a plan from rank 2 of group prefill.0",
        "the step to grouped", "reached ready", "making the group lane with rank", "supervisor", "started rank 4",
        "ended rank 0 by exit code 0"})
    CHECK_MESSAGE(has(shown.out, wanted), wanted);

  std::istringstream lines{trace(here, {"--last", "50", "--json"}).out};
  std::int64_t before = 0;
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto time = nlohmann::json::parse(line).at("time_ns").get<std::int64_t>();
    CHECK(time >= before);
    before = time;
  }
  CHECK(count == 50);
  CHECK(trace(here, {"--first-cause"}).out.starts_with("no rank has failed\n"));
}

TEST_CASE("C8, C45: records are readable after SIGKILL of the whole job, and a copy of its directory tells the same") {
  const scratch_folder here;
  command job{long_run(here)};
  REQUIRE(job.prints("token_ids", 20s));
  const auto live = trace(here, {"--first-cause"});
  CHECK(live.exit_code == 0);
  CHECK(live.out.starts_with("no rank has failed\n"));
  job.signal(SIGKILL);
  job.finish(5s);
  REQUIRE(holds_within(5s, [&] { return ranks_of(job.pid()).empty(); }));

  const auto folder = (here / "jobs") + "/" + here.job();
  const auto copy = here / "copy";
  std::filesystem::create_directory(copy);
  std::filesystem::copy(folder + "/flight", copy + "/flight", std::filesystem::copy_options::recursive);
  const auto shown = run_troupe({"trace", copy, "--first-cause"});
  CAPTURE(shown.err);
  CHECK(shown.exit_code == 0);
  for (std::size_t rank = 0; rank < reader_ranks; ++rank)
    CHECK(has(shown.out, "rank " + std::to_string(rank) + " ("));
  CHECK_FALSE(has(shown.out, "left no record"));
}

TEST_CASE("J1: while a job serves on after recoveries, trace names the first cause of each, newest last") {
  const scratch_folder here;
  const auto spec = here.write("served.json", reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                                              "prefill": {"role": "prefill", "tensor_parallel": 2},
                                                              "decode": {"role": "decode"}})"));
  command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready"));
  ::kill(rank_of(job.pid(), 1), SIGKILL);
  REQUIRE(job.prints("encode.0 ready again"));
  ::kill(rank_of(job.pid(), prefill_worker), SIGKILL);
  REQUIRE(job.prints("prefill.0/t1 ready again"));

  const auto shown = trace(here, {"--first-cause"});
  CAPTURE(shown.out);
  CHECK(shown.out.starts_with("no rank has failed since the last recovery\n"));
  const auto first = shown.out.find("before generation 2 failed first rank 1 (encode.0): ");
  const auto second = shown.out.find("before generation 3 failed first rank 3 (prefill.0/t1): ");
  REQUIRE(second != std::string::npos);
  CHECK(first < second);
  CHECK(has(shown.out.substr(first, shown.out.find('\n', first) - first), "ended by signal 9"));
  const auto json = nlohmann::json::parse(trace(here, {"--first-cause", "--json"}).out);
  REQUIRE(json.at("recoveries").size() == 2);
  CHECK(json.at("recoveries").at(1).at("first") == 3);
  job.signal(SIGTERM);
  CHECK(job.finish().exit_code == 0);
}

TEST_CASE("A record that cannot be read is said by file and offset, and the others are shown") {
  const scratch_folder here;
  const auto asked =
      run_troupe({"run", reader(here), "--prompt", "a", "--job", here.job(), "--run-dir", here / "jobs"});
  REQUIRE(asked.exit_code == 0);
  const auto ring = (here / "jobs") + "/" + here.job() + "/flight/r3.g1.ring";
  REQUIRE(std::filesystem::exists(ring));
  std::filesystem::resize_file(ring, 5000);

  const auto shown = trace(here, {"--first-cause"});
  CHECK(shown.exit_code == 0);
  CHECK(lines_in(shown.err) == 1);
  CHECK(has(shown.err, ring));
  CHECK(has(shown.err, "at offset 5000"));
  CHECK(has(shown.out, "rank 3 (prefill.0/t1): left no record"));
  CHECK(has(shown.out, "rank 4 (decode.0): "));
}

TEST_CASE("trace of nothing says what there is instead") {
  const scratch_folder here;
  const auto no_job = trace(here, {});
  CHECK(no_job.exit_code == 4);
  CHECK(has(no_job.err, here.job()));
  const auto no_folder = run_troupe({"trace", here / "nothing"});
  CHECK(no_folder.exit_code == 3);
  CHECK(lines_in(no_folder.err) == 1);
  CHECK(has(no_folder.err, here / "nothing"));
}

TEST_CASE("Runs without a name that failed keep their records, the newest few of them") {
  const scratch_folder here;
  const auto spec = reader(here);
  std::filesystem::create_directory(here / "jobs");
  std::filesystem::permissions(here / "jobs", std::filesystem::perms::owner_all);
  for (int i = 10; i < 22; ++i) {                   // what earlier ones have left
    const auto pid = std::to_string(4'000'000 + i); // above any process's
    const auto folder = std::filesystem::path{here / "jobs"} / ("reader-run-" + pid);
    std::filesystem::create_directory(folder);
    std::ofstream{folder / "lock"};
    std::ofstream{folder / "job.json"} << R"({"supervisor_pid": )" + pid + R"(, "started": "2026-01-01T00:00:)" +
                                              std::to_string(i) + R"(Z"})";
  }
  command job{{"run", spec, "--run-dir", here / "jobs", "--pages", golden_list(here, 60), "--json"}};
  REQUIRE(job.prints("token_ids", 20s));
  ::kill(rank_of(job.pid(), prefill_worker), SIGKILL);
  CHECK(job.finish(20s).exit_code == 6);

  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator{here / "jobs"})
    left.push_back(entry.path().filename().string());
  std::ranges::sort(left);
  CHECK(left.size() == 8);
  CHECK(std::ranges::count(left, "reader-run-" + std::to_string(job.pid())) == 1);
  CHECK(std::ranges::count(left, "reader-run-4000014") == 0);
  CHECK(std::ranges::count(left, "reader-run-4000015") == 1);
}
