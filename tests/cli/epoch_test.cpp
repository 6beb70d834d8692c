#include <doctest/doctest.h>

#include <array>

#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

/// The encode cell is lost while something about it is on its way between two ranks that stay, or between two actors
/// of one; its successor is there before that arrives.
struct scene {
  std::string what;
  std::string rank; ///< whose
  std::string rule; ///< what keeps it back
  std::string struck;
  std::string dropped; ///< what the log says of it
};

const std::array scenes{
    scene{"the front's order to the prefill cell", "front", "action=delay,message=submit,peer=prefill.0",
          "delay submit", "submit from rank 0 dropped: stale_epoch"},
    scene{"the prefill leader's order to its own member", "prefill.0", "action=slow,point=prefill.preflight",
          "slow at prefill.preflight", "reserve_rows from rank 2 dropped: stale_epoch"},
    scene{"the prefill rank's grant to the encode cell", "prefill.0", "action=slow,point=prefill.preflight,skip=1",
          "slow at prefill.preflight", "grant_rows to rank 1 dropped: stale_epoch"}};

} // namespace

TEST_CASE("D8: what was decided before a cell was lost and comes after it is dropped by name, and its request is "
          "served again") {
  for (const auto& with : scenes) {
    INFO("late: ", with.what);
    const scratch_folder here;
    const auto directory = (here / "jobs") + "/" + here.job();
    const auto spec = here.write("spec.json", reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                                   "prefill": {"role": "prefill"}, "decode": {"role": "decode"}})",
                                                          R"(, "drills": true, "timeouts": {"kill_ms": 10000,
                                                  "progress_ms": 30000, "supervisor_ms": 20000, "drain_ms": 20000})"));
    command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs"}};
    REQUIRE(job.prints("is ready", 60s));
    const auto inject = [&](const std::string& rule) {
      return run_troupe({"inject", here.job(), rule, "--run-dir", here / "jobs"}).exit_code == 0;
    };
    REQUIRE(inject("rank=" + with.rank + "," + with.rule + ",ms=8000,times=1"));

    const auto& page = golden_pages().front();
    command asked{
        {"ask", "--job", here.job(), "--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt}};
    REQUIRE(holds_within(patience, [&] { return has(content_of(directory + "/strikes"), with.struck); }));
    REQUIRE(inject("rank=encode.0,action=kill"));
    REQUIRE(job.prints("encode.0 ready again", 60s));

    const auto answer = asked.finish();
    CAPTURE(answer.err);
    CHECK(answer.exit_code == 0);
    CHECK(has(answer.out, page.text));
    const auto log = content_of(directory + "/logs/all.log");
    CHECK_MESSAGE(has(log, with.dropped), log);
    CHECK_FALSE(has(log, "restart 2 of")); // no edge was broken for it
    job.signal(SIGTERM);
    CHECK(job.finish().exit_code == 0);
  }
}
