#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>

#include "protocols/metrics/view_board.hpp"
#include "protocols/metrics/view_machine.hpp"
#include "protocols/serve/serve_metrics.hpp"
#include "protocols/wire/codec.hpp"
#include "tests/protocols/serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

using sign = view_machine::sign;

constexpr duration every = 250ms;
constexpr duration still = 1250ms;
constexpr rank_id other_encode{2};

/// A supervisor's two machines and the front's board. Ranks: front 0, encode 1 and 2, prefill 3 and 4, decode 5.
struct scene {
  cluster_plan plan = reader_plan();
  std::vector<std::string> hosts = std::vector<std::string>(plan.ranks.size(), "h");
  life_machine life{plan, hosts, {}, {}, at(0ms)};
  view_machine views{plan, hosts, {.every = every, .still = still}, at(0ms)};
  view_board board{plan};
  std::uint64_t acknowledged = 0;

  scene() = default;
  scene(const scene&) = delete;

  void starts() {
    for (std::uint32_t rank = 0; rank < plan.ranks.size(); ++rank) {
      endpoint where;
      where.rank = rank_id{rank};
      where.born = generation{1};
      where.tcp_port = static_cast<std::uint16_t>(1000 + rank);
      REQUIRE(life.on_joined(rank_id{rank}, {where, 100}));
    }
    for (const auto& rank : plan.ranks)
      REQUIRE(life.on_agree(rank.id, {{{"build", "a"}}}, at(0ms)));
    for (const auto state : {life_state::grouped, life_state::warm, life_state::ready})
      for (const auto& rank : plan.ranks)
        REQUIRE(life.on_progress(rank.id, {state, {}}, at(0ms)));
    REQUIRE(life.current() == life_machine::state::ready);
  }
  /// The front reads all that is sent to it, and says so.
  std::size_t tells(time_point now) {
    const auto pages = views.next(life, now);
    for (const auto& page : pages)
      REQUIRE(board.on_view(page, now));
    CHECK(views.on_counters(front_rank, {.state = life_state::ready, .view_taken = board.taken()}, now));
    return pages.size();
  }
  readiness ready(time_point now) const { return judge_readiness(board, life_state::ready, 8s, now); }
};

counters with(std::vector<counter_value> values, std::vector<histogram_value> histograms = {}) {
  return {.state = life_state::ready, .values = std::move(values), .histograms = std::move(histograms)};
}

} // namespace

TEST_CASE("J7: the front is told nothing before it serves, and then of every rank, each period") {
  scene one;
  CHECK(one.views.next(one.life, at(0ms)).empty());
  one.starts();

  CHECK(one.tells(at(10ms)) == 1);
  CHECK(one.tells(at(100ms)) == 0);
  CHECK(one.tells(at(260ms)) == 1);
  REQUIRE(one.board.at(decode_rank));
  CHECK(one.board.at(decode_rank)->last.state == life_state::ready);
  CHECK(one.board.at(decode_rank)->last.host == "h");
  CHECK(one.board.stage() == cluster_stage::ready);
  CHECK(one.board.epoch() == first_epoch);
}

TEST_CASE("J7: a cluster without a front tells nobody") {
  cluster_spec spec;
  spec.pools = {{"stub", role_kind::stub, 2}};
  const auto plan = make_plan(spec).value();
  life_machine life{plan, {"h", "h"}, {}, {}, at(0ms)};
  view_machine views{plan, {"h", "h"}, {.every = every, .still = still}, at(0ms)};

  CHECK(views.next(life, at(1s)).empty());
}

TEST_CASE(
    "E1: a front that reads nothing has a bounded number of pages on their way, and gets the present ones later") {
  scene one;
  one.starts();
  std::vector<cluster_view> pages;
  for (auto now = at(10ms); now < at(60s); now += 50ms)
    for (auto& page : one.views.next(one.life, now))
      pages.push_back(std::move(page));

  CHECK(pages.size() == view_machine::pages_ahead_max);
  REQUIRE(one.views.on_counters(front_rank, {.state = life_state::ready, .view_taken = 2}, at(60s)));
  CHECK(one.views.next(one.life, at(60s)).size() == 1);
}

TEST_CASE("E1: what ranks have counted goes in pages of bounded size") {
  cluster_spec spec;
  spec.pools = {{"front", serve_role::front}, {"prefill", serve_role::prefill}, {"decode", serve_role::decode, 400}};
  const auto plan = make_plan(spec).value();
  const std::vector<std::string> hosts(plan.ranks.size(), std::string(200, 'h'));
  life_machine life{plan, hosts, {}, {}, at(0ms)};
  for (const auto& rank : plan.ranks) {
    endpoint where{.rank = rank.id,
                   .born = generation{1},
                   .unix_path = "/r",
                   .tcp_address = {},
                   .tcp_port = 0,
                   .fabric_address = {}};
    REQUIRE(life.on_joined(rank.id, {where, 100}));
  }
  for (const auto& rank : plan.ranks)
    REQUIRE(life.on_agree(rank.id, {{{"build", "a"}}}, at(0ms)));
  for (const auto state : {life_state::grouped, life_state::warm, life_state::ready})
    for (const auto& rank : plan.ranks)
      REQUIRE(life.on_progress(rank.id, {state, {}}, at(0ms)));
  view_machine views{plan, hosts, {.every = every, .still = still}, at(0ms)};

  const auto pages = views.next(life, at(10ms));

  std::size_t ranks = 0;
  for (const auto& page : pages) {
    std::vector<std::byte> bytes;
    encode_payload(page, bytes);
    CHECK(bytes.size() < 2 * view_machine::page_bytes);
    ranks += page.ranks.size();
  }
  CHECK(pages.size() > 1);
  CHECK(ranks == plan.ranks.size());
}

TEST_CASE("J7: a rank that is busy and completes nothing is not ready before kill_ms has passed, by name") {
  for (const auto doing : {rank_activity::computes, rank_activity::waits_for_device, rank_activity::waits_for_peer}) {
    scene one;
    one.starts();
    const cluster_spec::timeouts_section timeouts;
    REQUIRE(view_period(timeouts) == every);
    REQUIRE(still_after(timeouts) == still);
    std::optional<time_point> known;
    for (auto now = at(0ms); now < at(5s) && !known; now += 50ms) {
      for (const auto& rank : one.plan.ranks) // at 1 s one begins a step, and stays in it
        one.views.on_sign(
            rank.id, {.progress = 7, .activity = rank.id == decode_rank && now >= at(1s) ? doing : rank_activity::idle},
            now);
      one.tells(now);
      if (!one.ready(now).ready)
        known = now;
    }

    REQUIRE(known);
    CHECK(*known - at(1s) >= still - 100ms);
    CHECK(*known - at(1s) <= std::chrono::milliseconds{timeouts.kill_ms});
    const auto why = one.ready(*known).reason;
    CHECK_MESSAGE(why.starts_with("rank 5 (decode.0) on h " + std::string{name(doing)} + " and completes nothing for "),
                  why);
    CHECK(health_rows(one.board, *known)[5].trouble.starts_with(name(doing)));
  }
}

TEST_CASE("J7: a rank that is idle for long, or computes and gets on, is ready") {
  scene one;
  one.starts();
  for (auto now = at(0ms); now < at(20s); now += 50ms) {
    one.views.on_sign(
        decode_rank,
        {.progress = static_cast<std::uint64_t>(now.time_since_epoch() / 400ms), .activity = rank_activity::computes},
        now);
    one.tells(now);
    CHECK_MESSAGE(one.ready(now).ready, one.ready(now).reason);
  }
  CHECK(one.board.at(encode_rank)->last.progress_age_ms > 15'000);
  CHECK(one.board.at(encode_rank)->last.still_ms == 0);
}

TEST_CASE("J7: an older word of a rank's progress is no progress") {
  scene one;
  one.starts();
  one.views.on_sign(decode_rank, {.progress = 9, .activity = rank_activity::computes}, at(100ms));
  REQUIRE(one.views.on_counters(
      decode_rank, {.state = life_state::ready, .activity = rank_activity::computes, .progress = 8}, at(1s)));
  one.views.on_sign(decode_rank, {.progress = 9, .activity = rank_activity::computes}, at(1600ms));
  one.tells(at(1600ms));

  CHECK(one.board.at(decode_rank)->last.still_ms == 1500);
  CHECK(one.board.at(decode_rank)->last.trouble == seen_trouble::still);
}

TEST_CASE("J7: a rank that gives no sign of life is not ready, and its successor is") {
  scene one;
  one.starts();
  one.views.on_sign(decode_rank, {.progress = 9, .activity = rank_activity::idle, .suspected = true}, at(100ms));
  one.tells(at(100ms));
  CHECK(one.ready(at(100ms)).reason == "rank 5 (decode.0) on h gives no sign of life");

  one.views.on_restarted(decode_rank, generation{2}, at(300ms));
  one.tells(at(400ms));

  CHECK(one.ready(at(400ms)).ready);
  CHECK(one.board.at(decode_rank)->last.restarts == 1);
  CHECK(one.board.at(decode_rank)->last.born == generation{2});
  CHECK(one.board.at(decode_rank)->last.progress_age_ms == 100);
}

TEST_CASE("J7: a job without a cell whose ranks are all ready makes the front not ready, with the cause of the loss") {
  scene one;
  one.starts();
  for (const auto rank : {encode_rank, decode_rank}) {
    one.life.on_end(rank, {rank_end::kind::signalled, 9, "Killed"}, at(100ms));
    one.views.on_blamed({rank, {}, {}, "rank " + std::to_string(rank.value) + " was killed"});
    const auto now = at(100ms) + every * rank.value;
    one.tells(now);
    CHECK(one.board.stage() == cluster_stage::recovering);
    if (rank == encode_rank) // another serves
      CHECK_MESSAGE(one.ready(now).ready, one.ready(now).reason);
    else
      CHECK(one.ready(now).reason == "no cell of decode serves: rank 5 (decode.0) on h is failed: rank 5 was killed");
  }
  CHECK(health_rows(one.board, at(2s))[1].cause == "rank 1 was killed");
}

TEST_CASE("J7: who starts, drains or hears nothing of its supervisor is not ready") {
  scene one;
  CHECK(judge_readiness(one.board, life_state::warm, 8s, at(0ms)) == readiness{false, "starting"});
  CHECK(one.ready(at(0ms)).reason.starts_with("starting"));
  one.starts();
  one.tells(at(10ms));
  CHECK(one.ready(at(10ms)).ready);
  CHECK(judge_readiness(one.board, life_state::draining, 8s, at(10ms)) == readiness{false, "draining"});
  CHECK(one.ready(at(8009ms)).ready);
  CHECK(one.ready(at(8010ms)).reason == "the supervisor has told nothing for 8000 ms");

  one.life.on_stop(life_machine::stop_asker::program, "enough", at(300ms));
  one.tells(at(300ms));
  CHECK(one.ready(at(300ms)).reason == "draining"); // before the order has reached it
}

TEST_CASE(
    "A26: counters that their rank does not have, or that do not fit their rows, are refused, and nothing changes") {
  scene one;
  one.starts();
  using namespace serve_metric;
  const auto shortened = std::vector<std::uint64_t>(4);
  const std::vector<std::pair<rank_id, counters>> bad{
      {decode_rank, with({{requests_running, about_nobody, 1}})},
      {front_rank, with({{metric_number{99}, about_nobody, 1}})},
      {front_rank, with({{prompt_tokens, rank_id{1}, 1}})},
      {front_rank, with({{shared_metric::transfer_bytes, about_nobody, 1}})},
      {front_rank, with({{shared_metric::transfer_bytes, rank_id{6}, 1}})},
      {front_rank, with({{prompt_tokens, about_nobody, 1}, {prompt_tokens, about_nobody, 2}})},
      {front_rank, with({{generation_tokens, about_nobody, 1}, {prompt_tokens, about_nobody, 2}})},
      {front_rank, with({{time_to_first_token, about_nobody, 1}})},
      {front_rank, with({}, {{time_to_first_token, 1, shortened}})},
      {front_rank, with({}, {{prompt_tokens, 1, {}}})},
      {front_rank, with(std::vector<counter_value>(view_machine::values_max + 1))},
      {front_rank, counters{.view_taken = 1}},
      {decode_rank, counters{.view_taken = 1}},
      {rank_id{6}, counters{}},
  };
  for (const auto& [from, said] : bad) {
    const auto taken = one.views.on_counters(from, said, at(10ms));
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == fault::bad_value);
  }
  one.tells(at(10ms));
  CHECK(one.board.at(front_rank)->last.values.empty());
}

TEST_CASE("A26: a view that is older than the newest, or of a rank that is none, is refused, and nothing changes") {
  const auto plan = reader_plan();
  view_board board{plan};
  REQUIRE(board.on_view({.number = 2, .stage = cluster_stage::ready, .epoch = cache_epoch{3}, .ranks = {}}, at(0ms)));

  CHECK_FALSE(board.on_view({.number = 2, .ranks = {}}, at(1s)));
  CHECK_FALSE(board.on_view({.number = 3, .ranks = {{.rank = rank_id{6}, .born = {}}}}, at(1s)));
  CHECK(board.taken() == 2);
  CHECK(board.epoch() == cache_epoch{3});
  CHECK(board.heard() == at(0ms));
}

TEST_CASE("J7: whoever waits is not at fault while another computes, and who waits for orders is idle") {
  const auto in = [](flight_action action, std::int64_t left = 0) {
    return flight_activity{.what = {.action = action}, .until_ns = left, .progress = 0};
  };
  using enum flight_action;
  const auto of = [](std::vector<flight_activity> threads) { return activity_of(threads); };
  CHECK(of({}) == rank_activity::idle);
  CHECK(of({in(plan_await), in(none), in(turn)}) == rank_activity::idle);
  CHECK(of({in(collective), in(step)}) == rank_activity::computes);
  CHECK(of({in(collective), in(flight_action::device)}) == rank_activity::waits_for_device);
  CHECK(of({in(plan_await), in(collective)}) == rank_activity::waits_for_peer);
  CHECK(of({in(step, 5)}) == rank_activity::idle); // left by a fault
}
