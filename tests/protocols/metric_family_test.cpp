#include "protocols/metrics/metric_family.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "protocols/cluster/program.hpp"
#include "protocols/serve/serve_metrics.hpp"
#include "tests/protocols/serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

const metric_family* find(const std::vector<metric_family>& all, std::string_view name) {
  const auto found = std::ranges::find(all, name, &metric_family::name);
  return found == all.end() ? nullptr : &*found;
}

std::string label(const metric_sample& of, std::string_view name) {
  for (const auto& [key, value] : of.labels)
    if (key == name)
      return value;
  return "none";
}

/// Each rank has counted what it counts; every number is another.
view_board told(const cluster_plan& plan) {
  cluster_view page{.number = 1, .stage = cluster_stage::ready, .epoch = cache_epoch{4}, .ranks = {}};
  for (const auto& rank : plan.ranks) {
    rank_view one{.rank = rank.id,
                  .born = generation{3},
                  .state = life_state::ready,
                  .progress_age_ms = 500,
                  .restarts = 2,
                  .host = "h",
                  .cause = {}};
    for (const auto& row : metrics_at(plan, rank.id))
      if (row.kind == metric_kind::histogram) {
        std::vector<std::uint64_t> counts(row.bounds.size() + 1, 1);
        counts.back() = 5;
        one.histograms.push_back({row.number, 3'000'000'000, std::move(counts)});
      } else if (!row.about_peers) {
        one.values.push_back({row.number, about_nobody, 1000u * rank.id.value + row.number.value});
      } else if (rank.id == prefill_leader) {
        one.values.push_back({row.number, decode_rank, 77});
      }
    page.ranks.push_back(std::move(one));
  }
  view_board board{plan};
  REQUIRE(board.on_view(std::move(page), at(0ms)));
  return board;
}

} // namespace

TEST_CASE("J7: each metric is shown for the ranks that count it, in the unit that its name says") {
  const auto plan = reader_plan();
  const auto board = told(plan);
  const auto all = metric_families(board, {.model = "m", .known_too = false}, {true, {}}, at(1s));

  const auto* const running = find(all, "troupe_num_requests_running");
  REQUIRE(running);
  CHECK(running->kind == metric_kind::gauge);
  REQUIRE(running->samples.size() == 1);
  CHECK(running->samples[0].value == 32);
  CHECK(label(running->samples[0], "rank") == "0");
  CHECK(label(running->samples[0], "model_name") == "m");

  const auto* const kv = find(all, "troupe_kv_cache_usage_perc");
  REQUIRE(kv);
  REQUIRE(kv->samples.size() == 1);
  CHECK(kv->samples[0].value == doctest::Approx(0.005050));

  const auto* const busy = find(all, "troupe_prefill_busy_seconds_total");
  REQUIRE(busy);
  CHECK(busy->samples.size() == 2); // both ranks of the mesh
  CHECK(busy->samples[1].value == doctest::Approx(4052e-9));

  const auto* const ended = find(all, "troupe_request_success_total");
  REQUIRE(ended);
  std::set<std::string> reasons;
  for (const auto& each : ended->samples)
    reasons.insert(label(each, "finished_reason"));
  CHECK(reasons == std::set<std::string>{"stop", "length", "abort", "error"});

  const auto* const bytes = find(all, "troupe_transfer_bytes_total");
  REQUIRE(bytes);
  CHECK(label(bytes->samples.back(), "edge") == "kv");
  CHECK(label(bytes->samples.back(), "rank") == "3");
  CHECK(label(bytes->samples.back(), "to") == "5");

  CHECK(find(all, "troupe_stale_dropped_total")->samples.size() == plan.ranks.size());
  CHECK(find(all, "troupe_epoch")->samples[0].value == 4);
  CHECK(find(all, "troupe_ready")->samples[0].value == 1);
  CHECK(find(all, "troupe_rank_restarts_total")->samples[5].value == 2);
  CHECK(find(all, "troupe_rank_progress_age_seconds")->samples[5].value == doctest::Approx(1.5));
  CHECK(std::ranges::none_of(all, [](const auto& each) { return each.name.starts_with("vllm:"); }));
}

TEST_CASE("J7: a histogram adds up its buckets, and the last bucket is all of it") {
  const auto plan = reader_plan();
  const auto all = metric_families(told(plan), {}, {}, at(0ms));
  const auto* const first = find(all, "troupe_time_to_first_token_seconds");
  REQUIRE(first);
  const auto& sample = first->samples.at(0);
  CHECK(first->kind == metric_kind::histogram);
  CHECK(sample.value == doctest::Approx(3.0));
  REQUIRE(sample.bounds.size() == 22);
  CHECK(sample.bounds.front() == doctest::Approx(0.001));
  CHECK(sample.bounds.back() == doctest::Approx(2560.0));
  REQUIRE(sample.cumulative.size() == 23);
  CHECK(sample.cumulative[0] == 1);
  CHECK(sample.cumulative[21] == 22);
  CHECK(sample.cumulative[22] == 27);
  CHECK(find(all, "troupe_ready")->samples[0].value == 0);
}

TEST_CASE("J7: dashboards of vLLM find its names with their numbers, and what does not exist is not shown") {
  const auto plan = reader_plan();
  const auto all = metric_families(told(plan), {.model = "m", .known_too = true}, {true, {}}, at(0ms));
  for (const auto* name : {"num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total",
                           "generation_tokens_total", "request_success_total", "time_to_first_token_seconds",
                           "inter_token_latency_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds",
                           "request_prefill_time_seconds", "request_decode_time_seconds",
                           "request_inference_time_seconds", "request_prompt_tokens", "request_generation_tokens"}) {
    CAPTURE(name);
    const auto* const own = find(all, std::string{"troupe_"} + name);
    const auto* const known = find(all, std::string{"vllm:"} + name);
    REQUIRE(own);
    REQUIRE(known);
    CHECK(known->samples == own->samples);
    CHECK(known->kind == own->kind);
    for (const auto& each : known->samples)
      CHECK(label(each, "engine") == "0");
  }
  CHECK(find(all, "vllm:time_per_output_token_seconds"));
  CHECK(find(all, "vllm:gpu_cache_usage_perc"));
  CHECK_FALSE(find(all, "vllm:num_preemptions_total"));
  CHECK_FALSE(find(all, "vllm:encode_busy_seconds_total"));
  CHECK_FALSE(find(all, "vllm:stale_dropped_total"));
}

TEST_CASE("J7: a rank of which nothing was told has no series") {
  const auto plan = reader_plan();
  const auto all = metric_families(view_board{plan}, {.model = "m", .known_too = true}, {false, "starting"}, at(0ms));
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "troupe_ready");
}

TEST_CASE("J7: every name is one that a monitoring system takes, with one kind, and series of it differ in a label") {
  const auto plan = reader_plan();
  const auto all = metric_families(told(plan), {.model = "m", .known_too = true}, {true, {}}, at(0ms));
  std::set<std::string> names;
  for (const auto& family : all) {
    CAPTURE(family.name);
    CHECK(names.insert(family.name).second);
    CHECK_FALSE(family.help.empty());
    CHECK(family.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_:") == std::string::npos);
    CHECK(family.name.ends_with("_total") == (family.kind == metric_kind::counter));
    std::set<std::vector<std::pair<std::string, std::string>>> seen;
    for (const auto& each : family.samples)
      CHECK(seen.insert(each.labels).second);
  }
}

TEST_CASE("J7: rows of one program differ in their numbers, and histograms alone have rising bounds") {
  for (const auto* const each : programs()) {
    std::set<metric_number> numbers;
    for (const auto& row : metric_rows(*each)) {
      CAPTURE(row.name);
      CHECK(numbers.insert(row.number).second);
      CHECK(row.bounds.size() <= metric_bounds_max);
      CHECK((row.kind == metric_kind::histogram) == !row.bounds.empty());
      CHECK(std::ranges::is_sorted(row.bounds));
      CHECK(std::ranges::adjacent_find(row.bounds) == row.bounds.end());
    }
  }
}
