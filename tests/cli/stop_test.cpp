#include <doctest/doctest.h>

#include <map>
#include <optional>

#include "protocols/cluster/cluster_plan.hpp"
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
  const std::string step_ms; ///< of a decode step
  const scratch_folder here;
  command job{{"up", reader(here), "--job", here.job(), "--run-dir", here / "jobs", "--inject",
               "rank=decode.0,action=slow,point=executor.announced,times=0,ms=" + step_ms}};
  std::optional<embed::client> client;

  explicit served_job(std::string step) : step_ms(std::move(step)) {
    REQUIRE(job.prints("is ready", 60s));
    auto connected = embed::client::connect(here / "jobs" + "/" + here.job() + "/front.sock", 0, base::now() + 10s);
    REQUIRE(connected);
    client.emplace(*std::move(connected));
  }

  command down() { return command{{"down", "--job", here.job(), "--run-dir", here / "jobs"}}; }

  /// Asks, and waits until the front has accepted all of it.
  std::size_t accept(std::size_t questions) {
    for (std::size_t i = 0; i < questions; ++i)
      REQUIRE(client->ask({.prompt = "Read the text.", .pictures = {}, .max_tokens = 20, .sampling = {}}));
    for (std::size_t accepted = 0; accepted < questions;) {
      const auto event = client->next_event(base::now() + 60s);
      REQUIRE(event);
      accepted += std::holds_alternative<embed::accepted>(*event) ? 1 : 0;
      note_end(*event);
    }
    return questions;
  }

  /// How many ended in which way, once the connection has ended.
  std::map<embed::ending, std::size_t> ends() {
    while (const auto event = client->next_event(base::now() + 60s))
      note_end(*event);
    return ended_;
  }

private:
  void note_end(const embed::event& event) {
    if (const auto* const one = std::get_if<embed::finished>(&event))
      ++ended_[one->how];
  }

  std::map<embed::ending, std::size_t> ended_;
};

} // namespace

TEST_CASE(
    "K17: two downs at the same moment are one: all that was accepted is answered, and every exit code is right") {
  served_job served{"100"};
  const auto accepted = served.accept(6);
  auto first = served.down();
  auto second = served.down();
  auto ended = served.ends();
  CHECK(ended[embed::ending::failed] == 0);
  CHECK(ended[embed::ending::stop] + ended[embed::ending::length] == accepted);
  CHECK(first.finish(60s).exit_code == 0);
  CHECK(second.finish(60s).exit_code == 0);
  CHECK(served.job.finish(60s).exit_code == 0);
}

namespace {

/// Three ranks, one of which `fault` strikes while the job drains: `down` says so by `code` and in one line with
/// `words`, and the job ends by the same code.
void check_down(const std::string& more_of_spec, const std::string& fault, int code, std::string_view words) {
  const scratch_folder here;
  const auto spec = here.write(
      "stub.json", R"({"troupe": 1, "name": "stub", "pools": {"stub": {"role": "stub", "cells": 3}}, "drills": true)" +
                       more_of_spec + "}");
  command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs", "--inject", fault}};
  REQUIRE(job.prints("is ready", 60s));
  const auto down = run_troupe({"down", "--job", here.job(), "--run-dir", here / "jobs"});
  CHECK(down.exit_code == code);
  CHECK(lines_in(down.err) == 1);
  CHECK(has(down.err, std::string{words}));
  CHECK(down.out.empty());
  CHECK(job.finish(60s).exit_code == code);
}

} // namespace

TEST_CASE("C6: down says by exit code 8 and by name that ranks which did not leave in time were killed") {
  check_down(R"(, "timeouts": {"heartbeat_ms": 50, "suspect_ms": 1000, "kill_ms": 3000, "drain_ms": 4000,
                               "progress_ms": 60000})",
             "rank=stub.1,action=slow,point=rank.draining,ms=60000", 8,
             "not left within timeouts.drain_ms (4000 ms): stub.1");
}

TEST_CASE("C6: down says by exit code 6 and by name that a rank failed while the job drained") {
  check_down("", "rank=stub.1,action=kill,point=rank.draining", 6, "rank 1 (stub.1)");
}

TEST_CASE("K17: after a second Ctrl-C every accepted request ends by a frame that says so") {
  served_job served{"1000"}; // nothing is answered before the second Ctrl-C
  const auto accepted = served.accept(6);
  served.job.signal(SIGINT);
  REQUIRE(holds_within(60s, [&] {
    return has(run_troupe({"ps", "--run-dir", served.here / "jobs"}).out, "draining");
  }));
  served.job.signal(SIGINT);
  auto ended = served.ends();
  CHECK(ended[embed::ending::failed] > 0);
  std::size_t all = 0;
  for (const auto& [how, count] : ended)
    all += count;
  CHECK(all == accepted);
  const auto end = served.job.finish(60s);
  CAPTURE(end.err);
  CHECK(end.exit_code == 130);
  CHECK(ranks_of(served.job.pid()).empty());
}
