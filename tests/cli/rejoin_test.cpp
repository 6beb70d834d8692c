#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

std::string drilled_reader(const scratch_folder& here) {
  return here.write("spec.json", reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                                 "prefill": {"role": "prefill"}, "decode": {"role": "decode"}})",
                                             R"(, "drills": true, "timeouts": {"kill_ms": 10000,
                                                "supervisor_ms": 20000, "drain_ms": 20000})"));
}

bool inject(const scratch_folder& here, const std::string& rule) {
  return run_troupe({"inject", here.job(), rule, "--run-dir", here / "jobs"}).exit_code == 0;
}

} // namespace

TEST_CASE("K14: an order that comes while a rank makes its edges to a newcomer is obeyed beside that") {
  const scratch_folder here;
  const auto directory = (here / "jobs") + "/" + here.job();
  command job{{"up", drilled_reader(here), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 60s));

  // the front takes the newcomer's edge late, and is told of another fault meanwhile
  REQUIRE(inject(here, "rank=front,action=slow,point=listener.accepted,ms=2500,times=1"));
  REQUIRE(inject(here, "rank=encode.0,action=kill"));
  REQUIRE(holds_within(20s, [&] {
    const auto shown = run_troupe({"trace", directory, "--first-cause", "--json"}).out;
    const auto found = nlohmann::json::parse(shown, nullptr, false);
    return !found.is_discarded() && found.at("ranks").at(0).at("in").at("action") == "edge";
  }));
  REQUIRE(inject(here, "rank=front,action=slow,point=front.preflight,ms=1,times=1"));

  REQUIRE(job.prints("encode.0 ready again", 60s));
  CHECK(has(job.err() + job.out(), "generation 2"));
  CHECK_FALSE(has(content_of(directory + "/logs/all.log"), "restart 2 of"));
  CHECK(run_troupe({"ask", "--job", here.job(), "--run-dir", here / "jobs", "--prompt", "What is this?"}, 60s)
            .exit_code == 0); // which meets that fault
  CHECK(has(content_of(directory + "/strikes"), "front.preflight"));
  job.signal(SIGTERM);
  CHECK(job.finish().exit_code == 0);
}

TEST_CASE("K14: a newcomer waits longer for a rank that stayed than that one may be silent") {
  const scratch_folder here;
  command job{{"up", drilled_reader(here), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 60s));

  REQUIRE(inject(here, "rank=front,action=slow,point=listener.accepted,ms=6000,times=1"));
  REQUIRE(inject(here, "rank=encode.0,action=kill"));

  REQUIRE(job.prints("encode.0 ready again", 60s));
  CHECK(has(job.err() + job.out(), "generation 2"));
  CHECK_FALSE(has(job.err() + job.out(), "restart 2 of"));
  job.signal(SIGTERM);
  CHECK(job.finish().exit_code == 0);
}
