#include "protocols/flight/flight_trace.hpp"
#include "protocols/flight/flight_words.hpp"
#include "protocols/serve/flight_names.hpp"
#include "protocols/wire/edge_messages.hpp"

#include <doctest/doctest.h>

#include "protocols/cluster/first_cause_machine.hpp"
#include "protocols/mesh/collective_kind.hpp"

using namespace troupe::protocols;

namespace {

constexpr std::int64_t ms = 1'000'000;

/// A cell of three ranks and an idle one, told by hand.
struct cluster_stories {
  std::vector<flight_story> stories;

  cluster_stories() {
    for (std::uint32_t rank = 0; rank < 4; ++rank) {
      flight_story story{.rank = rank_id{rank},
                         .born = generation{1},
                         .label = rank < 3 ? "prefill.0/t" + std::to_string(rank) : "front",
                         .host = "here",
                         .wall_ns = 1'000'000 * ms,
                         .steady_ns = 1000 * ms,
                         .groups = {},
                         .life = life_state::ready,
                         .activities = {{}},
                         .records = {},
                         .words = {}};
      if (rank < 3)
        story.groups = {{group_id{4}, "prefill.0", 0}};
      stories.push_back(std::move(story));
    }
  }
  flight_story& at(std::uint32_t rank) { return stories[rank]; }

  /// The rank has entered this collective of the cell's group at `since`, and is in it.
  flight_activity& in_collective(std::uint32_t rank, std::uint32_t number, std::int64_t since_ms) {
    auto& story = at(rank);
    story.groups[0].entered = number;
    story.activities[0].what = {.time_ns = since_ms * ms,
                                .call = call_id{17},
                                .number = number,
                                .group = group_id{4},
                                .operation = static_cast<std::uint16_t>(collective_kind::all_reduce_sum),
                                .action = flight_action::collective,
                                .moment = flight_moment::begin,
                                .phase = serve_phase::prefill};
    story.records.push_back(story.activities[0].what);
    return story.activities[0];
  }
  void computes(std::uint32_t rank, std::int64_t since_ms) {
    at(rank).activities[0].what = {.time_ns = since_ms * ms,
                                   .call = call_id{17},
                                   .action = flight_action::step,
                                   .moment = flight_moment::begin,
                                   .phase = serve_phase::prefill};
    at(rank).records.push_back(at(rank).activities[0].what);
  }
  void leaves_by(std::uint32_t rank, fault code, std::int64_t at_ms) {
    auto& in = at(rank).activities[0];
    in.until_ns = at_ms * ms;
    in.what.outcome = static_cast<std::uint16_t>(code);
    raises(rank, code, at_ms);
  }
  void raises(std::uint32_t rank, fault code, std::int64_t at_ms) {
    at(rank).records.push_back(
        {.time_ns = at_ms * ms, .operation = static_cast<std::uint16_t>(code), .action = flight_action::fault});
    at(rank).words = "executor: " + std::string{name(code)};
  }
  flight_story& supervisor() {
    if (stories.back().rank != supervisor_rank)
      stories.push_back({.rank = supervisor_rank,
                         .born = {},
                         .label = "supervisor",
                         .host = "here",
                         .wall_ns = 1'000'000 * ms,
                         .steady_ns = 1000 * ms,
                         .groups = {},
                         .activities = {},
                         .records = {},
                         .words = {}});
    return stories.back();
  }
  void saw_end(std::uint32_t rank, bool signal, std::uint64_t number, std::int64_t at_ms) {
    supervisor().records.push_back({.time_ns = at_ms * ms,
                                    .item = number,
                                    .peer = rank_id{rank},
                                    .operation = signal ? std::uint16_t{1} : std::uint16_t{0},
                                    .action = flight_action::ended});
  }
  void judged(std::uint32_t rank, std::int64_t at_ms) {
    supervisor().records.push_back({.time_ns = at_ms * ms, .peer = rank_id{rank}, .action = flight_action::verdict});
    supervisor().words = "rank " + std::to_string(rank) + " was blamed";
  }
  flight_trace trace(std::optional<std::int64_t> now_ms = std::nullopt) const {
    return trace_flight(stories, nullptr, now_ms ? std::optional{*now_ms * ms} : std::nullopt);
  }
};

using ranks = std::vector<rank_id>;

} // namespace

TEST_CASE("J1: a rank that died in a collective is first, and those that wait for it say so") {
  cluster_stories c;
  c.in_collective(0, 9, 2000);
  c.leaves_by(0, fault::peer_gone, 2070);
  c.in_collective(1, 8, 1990);
  c.in_collective(2, 9, 2005);
  c.saw_end(1, true, 9, 2060);
  c.saw_end(0, false, exit_peer_gone, 2100);

  for (const bool with_verdict : {false, true}) {
    CAPTURE(with_verdict);
    if (with_verdict)
      c.judged(1, 2061);
    const auto found = c.trace();
    CHECK(found.first == rank_id{1});
    CHECK(found.cause == (with_verdict ? "rank 1 was blamed" : ""));
    REQUIRE(found.ranks.size() == 4);
    CHECK(found.ranks[0].waits_for == ranks{rank_id{1}});
    CHECK(found.ranks[2].waits_for == ranks{rank_id{1}});
    CHECK(found.ranks[3].waits_for.empty());
    CHECK(found.ranks[0].text == "rank 0 (prefill.0/t0): in all_reduce_sum of group prefill.0, call 17, phase prefill, "
                                 "since 70.0 ms, left by peer_gone; waits for rank 1; ended by exit code 72");
    CHECK(found.ranks[1].text == "rank 1 (prefill.0/t1): in all_reduce_sum of group prefill.0, call 17, phase prefill, "
                                 "since 70.0 ms; ended by signal 9");
    CHECK(found.ranks[3].text == "rank 3 (front): idle");
    CHECK(found.text().starts_with("first failing rank 1 (prefill.0/t1): in all_reduce_sum"));
  }
}

TEST_CASE("J1: a rank that died inside the collective that all had entered is what the others wait for") {
  cluster_stories c;
  for (const std::uint32_t rank : {0u, 1u, 2u})
    c.in_collective(rank, 9, 2000);
  c.saw_end(2, true, 11, 2060);
  const auto found = c.trace();
  CHECK(found.first == rank_id{2});
  CHECK(found.ranks[0].waits_for == ranks{rank_id{2}});
  CHECK(found.ranks[2].waits_for.empty());
}

TEST_CASE("J1, B30: a rank that skipped a collective is named though nobody has died and nobody has judged") {
  cluster_stories c;
  c.in_collective(0, 9, 2000);
  c.in_collective(2, 9, 2000);
  c.in_collective(1, 8, 1900);
  c.at(1).activities[0] = {}; // it left the eighth, and awaits the next plan instead of the ninth
  c.at(1).activities[0].what = {
      .time_ns = 1950 * ms, .peer = rank_id{0}, .group = group_id{4}, .action = flight_action::plan_await};
  c.leaves_by(0, fault::timeout, 12'000);
  c.leaves_by(2, fault::timeout, 12'001);

  const auto found = c.trace();
  CHECK(found.first == rank_id{1});
  CHECK(found.ranks[1].text ==
        "rank 1 (prefill.0/t1): in awaiting a plan from rank 0 of group prefill.0, since 10.05 s; "
        "waits for rank 0");
  CHECK(found.ranks[0].text.find("since 10.00 s, left by timeout; waits for rank 1") != std::string::npos);
}

TEST_CASE("J1: a rank that is stopped is found behind the one that the supervisor saw leave by its deadline") {
  cluster_stories c;
  c.in_collective(0, 9, 2000);
  c.leaves_by(0, fault::timeout, 12'000);
  c.in_collective(2, 9, 2000);
  c.leaves_by(2, fault::timeout, 12'001);
  c.computes(1, 1950);
  c.at(1).groups[0].entered = 8;
  c.saw_end(0, false, 74, 12'010);
  c.judged(0, 12'011);
  const auto found = c.trace();
  CHECK(found.first == rank_id{1});
  CHECK(found.beyond_verdict);
  CHECK(found.cause == "first cause: rank 1 (prefill.0/t1), for which rank 0 (prefill.0/t0) waited 10.00 s in "
                       "all_reduce_sum of group prefill.0, call 17, phase prefill; rank 0 was blamed");
}

TEST_CASE("J1: of a chain of waits that all end at one deadline, those behind the one that left first are named") {
  cluster_stories c;
  const auto hops_with = [&](std::uint32_t rank, std::uint32_t peer) {
    c.at(rank).activities[0].what = {.time_ns = 2000 * ms,
                                     .peer = rank_id{peer},
                                     .group = group_id{4},
                                     .operation = static_cast<std::uint16_t>(collective_kind::hop),
                                     .action = flight_action::collective,
                                     .moment = flight_moment::begin};
    c.leaves_by(rank, fault::timeout, 5000 + rank);
  };
  hops_with(0, 1);
  hops_with(1, 2); // the edge between these two is cut
  hops_with(2, 1);
  c.saw_end(0, false, 74, 5010);
  c.judged(0, 5011);
  CHECK(c.trace().first == rank_id{1});

  cluster_stories two;
  for (const std::uint32_t rank : {1u, 2u}) {
    two.at(rank).activities[0] = c.at(rank).activities[0];
    two.saw_end(rank, false, 74, 5010);
  }
  two.judged(1, 5011);
  CHECK(two.trace().first == rank_id{1}); // each says that it was the other
}

TEST_CASE("J1: a rank that is one collective behind all others is named, though it waits for them as well") {
  cluster_stories c;
  for (const std::uint32_t rank : {0u, 1u})
    c.in_collective(rank, 10, 2000);
  c.in_collective(2, 9, 2000); // whose frames the others have, and it not theirs
  for (const std::uint32_t rank : {0u, 1u, 2u}) {
    c.leaves_by(rank, fault::timeout, 5000 + rank);
    c.saw_end(rank, false, 74, 5010 + rank);
  }
  c.judged(0, 5011);
  const auto found = c.trace();
  CHECK(found.ranks[2].waits_for == ranks{rank_id{0}, rank_id{1}});
  CHECK(found.first == rank_id{2});
}

TEST_CASE("J1: a leader that never announces the warm-up is found behind the member that waited for its plan") {
  cluster_stories c;
  c.at(1).activities[0].what = {.time_ns = 1950 * ms,
                                .peer = rank_id{0},
                                .group = group_id{4},
                                .action = flight_action::plan_await,
                                .moment = flight_moment::begin};
  c.leaves_by(1, fault::timeout, 4950);
  c.at(0).activities[0].what = {.time_ns = 1950 * ms,
                                .action = flight_action::life,
                                .moment = flight_moment::begin,
                                .phase = flight_phase::start};
  c.judged(1, 4960);
  const auto found = c.trace();
  CHECK(found.first == rank_id{0});
  CHECK(found.cause.starts_with("first cause: rank 0 (prefill.0/t0), for which rank 1 (prefill.0/t1) waited 3.00 s in "
                                "awaiting a plan from rank 0 of group prefill.0; "));
}

TEST_CASE("J1: the fault that a rank raised of its own comes before all that others raise because of it") {
  cluster_stories c;
  c.computes(1, 1950);
  c.leaves_by(1, fault::executor_failed, 2000);
  c.in_collective(0, 9, 1990);
  c.leaves_by(0, fault::peer_gone, 1999); // the socket's end was seen before the words were written
  const auto found = c.trace();
  CHECK(found.first == rank_id{1});
  CHECK(found.cause == "executor: executor_failed");
}

TEST_CASE("J1: a stuck transfer names its receiver when nothing else goes on") {
  cluster_stories c;
  c.at(3).records = {{.time_ns = 1000 * ms,
                      .item = 5,
                      .peer = rank_id{2},
                      .action = flight_action::transfer,
                      .moment = flight_moment::begin},
                     {.time_ns = 1100 * ms,
                      .item = 6,
                      .peer = rank_id{0},
                      .action = flight_action::transfer,
                      .moment = flight_moment::begin},
                     {.time_ns = 1200 * ms, .item = 6, .action = flight_action::transfer, .moment = flight_moment::end},
                     {.time_ns = 5000 * ms, .action = flight_action::frame_sent}};
  const auto found = c.trace();
  CHECK(found.ranks[3].in.what.item == 5);
  CHECK(found.ranks[3].text == "rank 3 (front): in a transfer to rank 2, since 4.00 s; waits for rank 2");
  CHECK(found.first == rank_id{2});
}

TEST_CASE("J1: in the start-up those that are further wait for those that are not") {
  cluster_stories c;
  for (auto& story : c.stories)
    story.life = life_state::grouped;
  c.at(2).life = life_state::joined;
  c.at(2).activities[0].what = {.time_ns = 1000 * ms,
                                .peer = rank_id{1},
                                .operation = static_cast<std::uint16_t>(channel_kind::group),
                                .action = flight_action::edge,
                                .moment = flight_moment::begin,
                                .phase = flight_phase::start};
  c.at(2).records = {c.at(2).activities[0].what};
  c.at(0).records = {{.time_ns = 3000 * ms, .action = flight_action::life}};
  const auto found = c.trace();
  CHECK(found.ranks[0].text == "rank 0 (prefill.0/t0): idle while grouped; waits for rank 2");
  CHECK(found.ranks[2].text ==
        "rank 2 (prefill.0/t2): in making the group lane with rank 1, since 2.00 s; waits for rank 1");
}

TEST_CASE("J1: a rank that left no record is named from the plan, and waited for") {
  cluster_stories c;
  for (const std::uint32_t rank : {0u, 1u})
    c.in_collective(rank, 1, 2000);
  c.stories.erase(c.stories.begin() + 2);
  cluster_plan plan;
  for (std::uint32_t rank = 0; rank < 4; ++rank)
    plan.ranks.push_back({.id = rank_id{rank}, .pool = "p", .label = "label " + std::to_string(rank)});
  plan.groups = {{group_id{4}, "prefill.0", {rank_id{0}, rank_id{1}, rank_id{2}}}};
  const auto found = trace_flight(c.stories, &plan);
  REQUIRE(found.ranks.size() == 4);
  CHECK(found.ranks[2].text == "rank 2 (label 2): left no record");
  CHECK(found.ranks[0].waits_for == ranks{rank_id{2}});
  CHECK(found.first == rank_id{2});
}

TEST_CASE("J1: a job that runs has no failing rank while nobody waits longer than the bound") {
  cluster_stories c;
  c.in_collective(0, 9, 2000);
  c.in_collective(2, 9, 2000);
  c.computes(1, 1990);
  CHECK_FALSE(c.trace(2500).first);
  CHECK(c.trace(2500).text().starts_with("no rank has failed\n"));
  CHECK(c.trace(4500).first == rank_id{1});
}

TEST_CASE("J1: members that await a plan of an idle leader are no fault") {
  cluster_stories c;
  for (const std::uint32_t rank : {1u, 2u})
    c.at(rank).activities[0].what = {
        .time_ns = 1000 * ms, .peer = rank_id{0}, .group = group_id{4}, .action = flight_action::plan_await};
  CHECK_FALSE(c.trace().first);
  CHECK_FALSE(c.trace(100'000).first);
}

TEST_CASE("J1: in a circle of waits the rank that fell silent first is taken") {
  cluster_stories c;
  for (const std::uint32_t rank : {0u, 1u}) {
    c.at(rank).activities[0].what = {.time_ns = (2000 + rank) * ms,
                                     .peer = rank_id{1 - rank},
                                     .group = group_id{4},
                                     .operation = static_cast<std::uint16_t>(collective_kind::hop),
                                     .action = flight_action::collective};
    c.at(rank).records = {c.at(rank).activities[0].what};
  }
  const auto found = c.trace();
  CHECK(found.ranks[1].waits_for == ranks{rank_id{0}});
  CHECK(found.first == rank_id{0});
}

TEST_CASE("J1: of two generations the newest is judged, and an end of the older one is not its own") {
  cluster_stories c;
  c.computes(1, 1000);
  c.saw_end(1, true, 9, 1100);
  c.supervisor().records.push_back({.time_ns = 1200 * ms, .peer = rank_id{1}, .action = flight_action::spawned});
  const auto supervisor = c.stories.back();
  auto again = c.at(1);
  again.born = generation{2};
  again.activities = {{}};
  c.stories.insert(c.stories.begin() + 2, again);
  const auto found = trace_flight(c.stories, nullptr);
  REQUIRE(found.ranks.size() == 4);
  CHECK(found.ranks[1].born == generation{2});
  CHECK(found.ranks[1].text == "rank 1 (prefill.0/t1): idle");
  CHECK_FALSE(found.first);
}

TEST_CASE("J1: a loss that was made good is no failure, the next one is") {
  cluster_stories c;
  c.saw_end(1, true, 9, 1100);
  c.judged(1, 1101);
  c.supervisor().records.push_back({.time_ns = 1200 * ms, .peer = rank_id{1}, .action = flight_action::spawned});
  CHECK_FALSE(c.trace(9000).first);
  CHECK(c.trace(9000).cause.empty());
  c.judged(2, 9500);
  CHECK(c.trace().first == rank_id{2});
  CHECK(c.trace().cause == "rank 2 was blamed");
}

TEST_CASE("J1: ranks that the supervisor put down, and consequences, are not the first") {
  cluster_stories c;
  c.supervisor().records.push_back({.time_ns = 900 * ms, .peer = rank_id{0}, .action = flight_action::killed});
  c.saw_end(0, true, 9, 1000);
  c.saw_end(2, false, exit_peer_gone, 1001);
  c.saw_end(3, false, 0, 1002);
  CHECK_FALSE(c.trace().first);
  c.saw_end(1, false, 70, 1003);
  const auto found = c.trace();
  CHECK(found.first == rank_id{1});
  CHECK(found.ranks[0].text.ends_with("ended by signal 9 of the supervisor"));
}

TEST_CASE("Clocks of two hosts are placed by the wall clocks that were read beside them") {
  cluster_stories c;
  c.at(1).host = "there"; // booted 500 ms later than the first host's clock began
  c.at(1).steady_ns = 500 * ms;
  c.at(2).steady_ns = 1100 * ms; // the same host, its wall clock has been set meanwhile
  for (const std::uint32_t rank : {0u, 1u, 2u})
    c.at(rank).records = {{.time_ns = 600 * ms, .action = flight_action::arrived}};
  align_clocks(c.stories);
  CHECK(c.at(0).records[0].time_ns == 600 * ms);
  CHECK(c.at(1).records[0].time_ns == 1100 * ms);
  CHECK(c.at(2).records[0].time_ns == 600 * ms);
  CHECK(c.at(1).activities[0].until_ns == 0);
}

TEST_CASE("C8, C12: the last words of a rank are what it said of its fault and what it was in") {
  cluster_stories cluster;
  CHECK(last_words(cluster.at(1)).empty());
  cluster.computes(1, 2000);
  CHECK(last_words(cluster.at(1)) == "it was in a step, call 17, phase prefill");
  cluster.at(1).words = "watchdog: a step computes and completes nothing for 4000 ms: leaving";
  CHECK(last_words(cluster.at(1)) == cluster.at(1).words + "; it was in a step, call 17, phase prefill");
  cluster.at(1).activities[0] = {};
  CHECK(last_words(cluster.at(1)) == cluster.at(1).words);
}

TEST_CASE(
    "J1: the first cause of each loss that was made good is told, by the generation that came of it, newest last") {
  cluster_stories c;
  const auto spawned = [&](std::uint32_t rank, std::uint32_t born, std::int64_t at_ms) {
    c.supervisor().records.push_back(
        {.time_ns = at_ms * ms, .number = born, .peer = rank_id{rank}, .action = flight_action::spawned});
  };
  for (const std::uint32_t rank : {0u, 1u, 2u, 3u})
    spawned(rank, 1, 1000);
  c.computes(1, 1950);
  c.saw_end(1, true, 9, 2060);
  c.judged(1, 2061);
  for (const std::uint32_t rank : {0u, 2u}) {
    c.supervisor().records.push_back({.time_ns = 2062 * ms, .peer = rank_id{rank}, .action = flight_action::killed});
    c.saw_end(rank, true, 9, 2070);
  }
  for (const std::uint32_t rank : {0u, 1u, 2u})
    spawned(rank, 2, 2080);
  c.judged(0, 3000); // silent: the supervisor puts it down
  c.supervisor().records.push_back({.time_ns = 3001 * ms, .peer = rank_id{0}, .action = flight_action::killed});
  c.saw_end(0, true, 9, 3010);
  for (const std::uint32_t rank : {0u, 1u, 2u})
    spawned(rank, 3, 3020);
  for (std::uint32_t rank = 0; rank < 3; ++rank) { // the newest of each; the second left none
    auto successor = cluster_stories{}.at(rank);
    successor.born = generation{3};
    c.stories.push_back(successor);
  }

  const auto found = c.trace(4000);
  CHECK_FALSE(found.first);
  REQUIRE(found.recoveries.size() == 2);
  CHECK(found.recoveries[0] == flight_trace::recovery{generation{2}, rank_id{1},
                                                      "rank 1 (prefill.0/t1): it was in a step, call 17, phase "
                                                      "prefill; ended by signal 9"});
  CHECK(found.recoveries[1] == flight_trace::recovery{generation{3}, rank_id{0},
                                                      "rank 0 (prefill.0/t0): left no record; ended by signal 9 "
                                                      "of the supervisor"}); // what its first one did is not its
  CHECK(found.text().starts_with("no rank has failed since the last recovery\n"
                                 "before generation 2 failed first rank 1 (prefill.0/t1): it was in a step"));

  c.saw_end(2, true, 11, 5000);
  c.judged(2, 5001);
  const auto last = c.trace();
  CHECK(last.first == rank_id{2});
  CHECK(last.recoveries.size() == 2);
  CHECK(last.text().starts_with("first failing rank 2 (prefill.0/t2): "));
}

TEST_CASE("J1: a record that was removed for newer ones is said to be no longer kept, and from when they are") {
  cluster_stories c;
  const auto fails_and_is_replaced = [&](std::uint32_t born) {
    c.supervisor().records.push_back(
        {.time_ns = born * 1000 * ms, .number = born, .peer = rank_id{1}, .action = flight_action::spawned});
    c.saw_end(1, true, 9, born * 1000 + 500);
    c.judged(1, born * 1000 + 501);
  };
  for (std::uint32_t born = 1; born <= 6; ++born)
    fails_and_is_replaced(born);
  c.at(1).born = generation{3}; // the oldest of four
  for (const std::uint32_t born : {4U, 5U, 6U}) {
    auto newer = c.at(1);
    newer.born = generation{born};
    c.stories.push_back(newer);
  }

  const auto found = c.trace();
  REQUIRE(found.recoveries.size() == 5);
  for (const auto i : {0U, 1U})
    CHECK(found.recoveries[i].text == "rank 1 (prefill.0/t1): its record is no longer kept (of this rank those from "
                                      "generation 3 on are); ended by signal 9");
  CHECK(found.recoveries[2].text == "rank 1 (prefill.0/t1): idle; ended by signal 9");
}

TEST_CASE("J1: of cells that were lost together each has its line, which says how many there are") {
  cluster_stories c;
  const auto spawned = [&](std::uint32_t rank, std::uint32_t born, std::int64_t at_ms) {
    c.supervisor().records.push_back(
        {.time_ns = at_ms * ms, .number = born, .peer = rank_id{rank}, .action = flight_action::spawned});
  };
  for (const auto rank : {1U, 2U})
    spawned(rank, 1, 1000);
  for (const auto rank : {1U, 2U}) {
    c.saw_end(rank, true, 9, 2000 + rank);
    c.judged(rank, 2010 + rank);
  }
  for (const auto rank : {1U, 2U})
    spawned(rank, 2, 3000);
  c.saw_end(1, true, 9, 4000);
  c.judged(1, 4001);
  spawned(1, 3, 4100);

  const auto text = c.trace(5000).text();
  CHECK(text.find("before generation 2 failed first, in lost cell 1 of 2, rank 1 (prefill.0/t1): ") !=
        std::string::npos);
  CHECK(text.find("before generation 2 failed first, in lost cell 2 of 2, rank 2 (prefill.0/t2): ") !=
        std::string::npos);
  CHECK(text.find("before generation 3 failed first rank 1 (prefill.0/t1): ") != std::string::npos);
}
