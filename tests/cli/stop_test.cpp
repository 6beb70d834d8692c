#include <doctest/doctest.h>

#include <map>
#include <optional>

#include "protocols/cluster_plan.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/embed/client.hpp"
#include "tests/cli/golden_pages.hpp"

using namespace troupe;
using namespace troupe::tests;

namespace {

/// A drain may take as long as the slowest machine needs; each decode step is slow, so that a drain is seen.
std::string reader(const scratch_folder& here) {
  return here.write(
      "reader.json",
      reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                    "prefill": {"role": "prefill", "tensor_parallel": 2}, "decode": {"role": "decode"}})",
                  R"(, "limits": {"in_flight_max": 8}, "timeouts": {"drain_ms": 120000}, "drills": true)"));
}

struct served_job {
  const scratch_folder here;
  command job{{"up", reader(here), "--job", here.job(), "--run-dir", here / "jobs", "--inject",
               "rank=decode.0,action=slow,point=executor.announced,ms=50,times=0"}};
  std::optional<embed::client> client;

  served_job() {
    REQUIRE(job.prints("is ready", 60s));
    auto connected = embed::client::connect(here / "jobs" + "/" + here.job() + "/front.sock", protocols::rank_id{0},
                                            base::now() + 10s);
    REQUIRE(connected);
    client.emplace(*std::move(connected));
  }

  command down() { return command{{"down", "--job", here.job(), "--run-dir", here / "jobs"}}; }

  /// Asks, and waits until the front has accepted all of it.
  std::size_t accept(std::size_t questions) {
    for (std::size_t i = 0; i < questions; ++i)
      REQUIRE(client->ask({.prompt = "Read the text.", .pictures = {}, .max_tokens = 20, .sampling = {}}));
    std::size_t accepted = 0;
    while (accepted < questions) {
      const auto event = client->next_event(base::now() + 60s);
      REQUIRE(event);
      accepted += std::holds_alternative<protocols::accepted>(*event) ? 1 : 0;
      REQUIRE_FALSE(std::holds_alternative<protocols::finished>(*event));
    }
    return accepted;
  }

  /// How many ended in which way, until the connection ends.
  std::map<protocols::finish_reason, std::size_t> ends() {
    std::map<protocols::finish_reason, std::size_t> ended;
    while (const auto event = client->next_event(base::now() + 60s))
      if (const auto* const one = std::get_if<protocols::finished>(&*event))
        ++ended[one->reason];
    return ended;
  }
};

} // namespace

TEST_CASE(
    "K17: two downs at the same moment are one: all that was accepted is answered, and every exit code is right") {
  served_job served;
  const auto accepted = served.accept(6);
  auto first = served.down();
  auto second = served.down();
  auto ended = served.ends();
  CHECK(ended[protocols::finish_reason::failed] == 0);
  CHECK(ended[protocols::finish_reason::stop] + ended[protocols::finish_reason::length] == accepted);
  CHECK(first.finish(60s).exit_code == 0);
  CHECK(second.finish(60s).exit_code == 0);
  CHECK(served.job.finish(60s).exit_code == 0);
}

TEST_CASE("K17: after a second Ctrl-C every accepted request ends by a frame that says so") {
  served_job served;
  const auto accepted = served.accept(6);
  served.job.signal(SIGINT);
  REQUIRE(holds_within(60s, [&] {
    return has(run_troupe({"ps", "--run-dir", served.here / "jobs"}).out, "draining");
  }));
  served.job.signal(SIGINT);
  auto ended = served.ends();
  CHECK(ended[protocols::finish_reason::failed] > 0);
  std::size_t all = 0;
  for (const auto& [how, count] : ended)
    all += count;
  CHECK(all == accepted);
  const auto end = served.job.finish(60s);
  CAPTURE(end.err);
  CHECK(end.exit_code == 130);
  CHECK(ranks_of(served.job.pid()).empty());
}
