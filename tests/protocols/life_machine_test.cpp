#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>

#include "protocols/cluster/life_machine.hpp"
#include "protocols/serve/roles.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

using life = life_machine;
using effects = life::effects;

time_point at(duration since_start) {
  return time_point{since_start};
}

const auto never = [] {
  cluster_spec::restart_section of_nobody;
  of_nobody.of.fill(restart_policy::none);
  return of_nobody;
}();

/// front 0, prefill 1 and 2 (one mesh), decode 3; start 60 s, drain 5 s, kill 2 s; what is lost ends it.
struct cluster {
  cluster_plan plan = make_plan([] {
                        cluster_spec spec;
                        spec.pools = {{"front", serve_role::front},
                                      {"prefill", serve_role::prefill, 1, 2},
                                      {"decode", serve_role::decode}};
                        return spec;
                      }())
                          .value();
  life machine;

  explicit cluster(const cluster_spec::restart_section& restarts = never)
      : machine{plan, {"h", "h", "h", "h"}, {}, restarts, at(0s)} {}
  cluster(const cluster&) = delete;

  static endpoint reachable(std::uint32_t rank) {
    endpoint where;
    where.rank = rank_id{rank};
    where.born = generation{1};
    where.tcp_port = static_cast<std::uint16_t>(1000 + rank);
    return where;
  }

  /// What the last rank's event brought about, after all the others'.
  template <class Event>
  effects for_all(Event&& event) {
    effects last;
    for (std::uint32_t rank = 0; rank < plan.ranks.size(); ++rank) {
      CAPTURE(rank);
      const auto outcome = event(rank_id{rank});
      REQUIRE(outcome);
      if (rank + 1 < plan.ranks.size())
        CHECK(outcome->empty());
      last = *outcome;
    }
    return last;
  }
  effects all_join() {
    return for_all([&](rank_id rank) { return machine.on_joined(rank, {reachable(rank.value), 100}); });
  }
  effects all_agree() {
    return for_all([&](rank_id rank) { return machine.on_agree(rank, {{{"build", "a"}}}, at(1s)); });
  }
  effects all_reach(life_state state) {
    return for_all([&](rank_id rank) { return machine.on_progress(rank, {state, {}}, at(1s)); });
  }
  void start() {
    all_join();
    all_agree();
    for (const auto state : {life_state::grouped, life_state::warm, life_state::ready})
      all_reach(state);
    REQUIRE(machine.current() == life::state::ready);
  }
  effects end(std::uint32_t rank, const rank_end& how, time_point now) {
    return machine.on_end(rank_id{rank}, how, now);
  }
  effects stop(const std::string& reason, time_point now) {
    return machine.on_stop(life::stop_asker::program, reason, now);
  }
};

const std::vector<rank_id> every_rank{rank_id{0}, rank_id{1}, rank_id{2}, rank_id{3}};
const rank_end orderly{rank_end::kind::exited, 0, "done"};
const rank_end killed{rank_end::kind::signalled, 9, "Killed"};
const rank_end lost_peer{rank_end::kind::exited, exit_peer_gone, "peer_gone"};

const std::string rank_2_killed = "rank 2 (prefill.0/t1) on h was killed by signal 9 (Killed) while ready";

} // namespace

TEST_CASE("B20: each step is ordered when every rank has taken the one before") {
  cluster c;

  roster everybody;
  for (std::uint32_t rank = 0; rank < 4; ++rank)
    everybody.ranks.push_back(cluster::reachable(rank));
  CHECK(c.all_join() == effects{life::report{"all 4 ranks joined"}, life::to_ranks{every_rank, everybody}});
  CHECK(c.all_agree() == effects{life::to_ranks{every_rank, verdict{true, {}}}, life::report{"all 4 ranks agreed"},
                                 life::to_ranks{every_rank, proceed{life_state::grouped}}});
  CHECK(c.all_reach(life_state::grouped) ==
        effects{life::report{"all 4 ranks grouped"}, life::to_ranks{every_rank, proceed{life_state::warm}}});
  CHECK(c.all_reach(life_state::warm) ==
        effects{life::report{"all 4 ranks warm"}, life::to_ranks{every_rank, proceed{life_state::ready}}});
  CHECK(c.all_reach(life_state::ready) == effects{life::report{"all 4 ranks are ready"}, life::cluster_ready{}});
  CHECK(c.machine.on_tick(at(1h)).empty()); // the deadline of the start is no longer one
}

TEST_CASE("B20: what a rank says out of turn is refused and changes nothing") {
  cluster c;
  const auto code_of = [](const result<effects>& outcome) { return outcome.error().code; };

  CHECK(code_of(c.machine.on_agree(rank_id{1}, {}, at(0s))) == fault::illegal_transition); // not joined
  CHECK(code_of(c.machine.on_joined(rank_id{1}, {cluster::reachable(2), 7})) == fault::wrong_rank);
  CHECK(code_of(c.machine.on_joined(rank_id{9}, {cluster::reachable(9), 7})) == fault::bad_value);
  REQUIRE(c.machine.on_joined(rank_id{1}, {cluster::reachable(1), 7}));
  CHECK(code_of(c.machine.on_joined(rank_id{1}, {cluster::reachable(1), 7})) == fault::illegal_transition);
  CHECK(code_of(c.machine.on_progress(rank_id{1}, {life_state::agreed, {}}, at(1s))) == fault::illegal_transition);
  CHECK(code_of(c.machine.on_progress(rank_id{1}, {life_state::grouped, {}}, at(1s))) == fault::illegal_transition);
  CHECK(code_of(c.machine.on_progress(rank_id{1}, {life_state::draining, {}}, at(1s))) == fault::illegal_transition);
  CHECK(c.machine.at(rank_id{1}) == life_state::joined);
}

TEST_CASE("C36: an endpoint that nobody could use, or of another generation, is refused and not kept") {
  cluster c;
  auto nowhere = cluster::reachable(1);
  nowhere.tcp_port = 0;
  CHECK(c.machine.on_joined(rank_id{1}, {nowhere, 7}).error().code == fault::bad_value);
  auto older = cluster::reachable(1);
  older.born = generation{0};
  CHECK(c.machine.on_joined(rank_id{1}, {older, 7}).error().code == fault::stale_generation);
  CHECK(c.machine.at(rank_id{1}) == life_state::spawned);
  CHECK(c.machine.on_joined(rank_id{1}, {cluster::reachable(1), 7}));
}

TEST_CASE("G3: a rank that runs ahead of the others is refused") {
  cluster c;
  c.all_join();
  c.all_agree();
  REQUIRE(c.machine.on_progress(rank_id{1}, {life_state::grouped, {}}, at(1s)));

  CHECK(c.machine.on_progress(rank_id{1}, {life_state::warm, {}}, at(1s)).error() ==
        failure{fault::illegal_transition, "prefill.0/t0 says that it is warm while grouped, ordered was grouped"});
}

TEST_CASE("B20: a rank on its way may say what it does") {
  cluster c;
  REQUIRE(c.machine.on_joined(rank_id{3}, {cluster::reachable(3), 7}));

  CHECK(c.machine.on_progress(rank_id{3}, {life_state::joined, "mapping weights"}, at(1s)) ==
        effects{life::report{"decode.0: mapping weights"}});
}

TEST_CASE("B14: ranks that do not agree are told why, and the cluster ends with that") {
  cluster c;
  c.all_join();
  const auto out = c.for_all([&](rank_id rank) {
    return c.machine.on_agree(rank, {{{"build", rank == rank_id{3} ? "b" : "a"}}}, at(1s));
  });

  const std::string difference = "the ranks do not agree on build:\n"
                                 "  a  <- front, prefill.0/t0, prefill.0/t1\n"
                                 "  b  <- decode.0";
  CHECK(out ==
        effects{life::to_ranks{every_rank, verdict{false, difference}}, life::to_all{shutdown{false, difference}}});
  const rank_end parity{rank_end::kind::exited, 73, "parity"};
  for (std::uint32_t rank = 0; rank < 3; ++rank)
    CHECK(c.end(rank, parity, at(1s)).empty());
  CHECK(c.end(3, parity, at(1s)) == effects{life::cluster_ended{life::outcome::parity_mismatch, difference}});
}

TEST_CASE("C5: what a rank cannot start with ends the cluster by that alone, and by nothing that follows from it") {
  cluster c;
  const error said{.code = static_cast<std::uint16_t>(fault::config_invalid),
                   .message = "device cuda:4 is not there; valid here: cuda:0 to cuda:3",
                   .origin = rank_id{2},
                   .call = {},
                   .where = "start",
                   .request = {}};
  CHECK(c.machine.on_error(rank_id{2}, said, at(1s)).empty());
  const auto cause = said.message + " (rank 2, prefill.0/t1)";
  CHECK(c.end(2, {rank_end::kind::exited, 3, "config"}, at(1s)) == effects{life::to_all{shutdown{false, cause}}});
  for (const std::uint32_t rank : {0u, 1u})
    CHECK(c.end(rank, orderly, at(1s)).empty());
  CHECK(c.end(3, orderly, at(1s)) == effects{life::cluster_ended{life::outcome::unusable, cause}});
}

TEST_CASE("C5: a start that takes too long names who is missing") {
  cluster c;
  REQUIRE(c.machine.on_joined(rank_id{0}, {cluster::reachable(0), 7}));
  REQUIRE(c.machine.on_joined(rank_id{1}, {cluster::reachable(1), 7}));
  REQUIRE(c.machine.on_joined(rank_id{3}, {cluster::reachable(3), 7}));
  CHECK(c.machine.on_tick(at(60s - 1ns)).empty());

  const auto cause = "not ready within timeouts.start_ms (60000 ms): waiting for prefill.0/t1 (spawned)";
  CHECK(c.machine.on_tick(at(60s)) == effects{life::to_all{shutdown{false, cause}}});
  for (const std::uint32_t rank : {0u, 1u, 3u})
    c.end(rank, orderly, at(60s));
  CHECK(c.machine.on_tick(at(62s)) == effects{life::kill_ranks{{rank_id{2}}}});
  CHECK(c.end(2, killed, at(62s)) == effects{life::cluster_ended{life::outcome::start_timeout, cause}});
}

TEST_CASE("C3: a drain ends when the last rank has left in order") {
  cluster c;
  c.start();

  CHECK(c.stop("sigterm", at(10s)) ==
        effects{life::report{"draining: sigterm"}, life::to_all{shutdown{true, "sigterm"}}});
  REQUIRE(c.machine.on_progress(rank_id{0}, {life_state::draining, {}}, at(1s)));
  CHECK(c.end(0, orderly, at(11s)).empty());
  CHECK(c.end(1, lost_peer, at(11s)).empty()); // its peer has left: that is what a drain is
  CHECK(c.end(2, orderly, at(11s)).empty());
  CHECK(c.end(3, orderly, at(11s)) == effects{life::cluster_ended{life::outcome::drained, {}}});
  CHECK(c.machine.on_tick(at(1h)).empty());
}

TEST_CASE("C45: what has not left within the drain's deadline is killed and named") {
  cluster c;
  c.start();
  c.stop("sigterm", at(10s));
  for (const std::uint32_t rank : {0u, 1u, 3u})
    c.end(rank, orderly, at(11s));

  CHECK(c.machine.on_tick(at(15s - 1ns)).empty());
  CHECK(c.machine.on_tick(at(15s)) == effects{life::kill_ranks{{rank_id{2}}}});
  CHECK(c.end(2, killed, at(15s)) ==
        effects{life::cluster_ended{life::outcome::drain_timeout,
                                    "not left within timeouts.drain_ms (5000 ms): prefill.0/t1 (ready)"}});
}

TEST_CASE("K17: a second request to stop joins the drain of the first, whoever makes either, and costs no time") {
  using enum life::stop_asker;
  for (const auto first : {program, terminal})
    for (const auto second : {program, terminal}) {
      if (first == terminal && second == terminal)
        continue; // one person, twice
      CAPTURE(static_cast<int>(first));
      CAPTURE(static_cast<int>(second));
      cluster c;
      c.start();
      c.machine.on_stop(first, "one", at(10s));

      CHECK(c.machine.on_stop(second, "another", at(12s)) ==
            effects{life::report{"draining already, and goes on: another"}});
      CHECK(c.machine.on_stop(program, "a third", at(12s)).size() == 1);

      CHECK(c.machine.current() == life::state::draining);
      CHECK(c.machine.on_tick(at(15s) - 1ns).empty());
      for (const std::uint32_t rank : {0u, 1u, 2u})
        CHECK(c.end(rank, orderly, at(14s)).empty());
      CHECK(c.end(3, orderly, at(14s)) == effects{life::cluster_ended{life::outcome::drained, {}}});
    }
}

TEST_CASE("K17: a second Ctrl-C aborts, and the front ends what it has accepted by name before it is told to leave") {
  using enum life::stop_asker;
  cluster c;
  c.start();
  c.machine.on_stop(terminal, "one", at(10s));
  c.machine.on_stop(program, "joins", at(10s));

  const auto out = c.machine.on_stop(terminal, "two", at(11s));

  const std::string why = "leaving at once: two";
  CHECK(out == effects{life::to_ranks{{rank_id{0}}, lost{every_rank, generation{0}, why, cache_epoch{2}}},
                       life::to_ranks{{rank_id{1}, rank_id{2}, rank_id{3}}, shutdown{false, why}}});
  CHECK(c.machine.on_tick(at(11s) + limits::front_notice - 1ns).empty());
  CHECK(c.machine.on_tick(at(11s) + limits::front_notice) ==
        effects{life::to_ranks{{rank_id{0}}, shutdown{false, why}}});
  CHECK(c.machine.on_tick(at(11s) + limits::front_notice).empty());
  CHECK(c.machine.on_stop(terminal, "three", at(11s)).empty());
  for (const std::uint32_t rank : {0u, 1u, 2u})
    CHECK(c.end(rank, orderly, at(12s)).empty());
  CHECK(c.end(3, orderly, at(12s)) == effects{life::cluster_ended{life::outcome::aborted, why}});
}

TEST_CASE("K17: a Ctrl-C twice while the ranks start finds nobody to tell, and ends them at once") {
  using enum life::stop_asker;
  cluster c;
  c.all_join();
  c.machine.on_stop(terminal, "one", at(1s));
  CHECK(c.machine.on_stop(terminal, "two", at(1s)) == effects{life::to_all{shutdown{false, "leaving at once: two"}}});
}

TEST_CASE("C1: a process that cannot be started in a lost rank's place ends the cluster with its name") {
  cluster c;
  c.start();
  const auto out = c.machine.on_unstartable(rank_id{3}, "no memory", at(10s));
  const std::string why = "cannot start decode.0 again: no memory";
  CHECK(out.front() ==
        life::effect{life::to_ranks{{rank_id{0}}, lost{every_rank, generation{0}, why, cache_epoch{2}}}});
  for (const std::uint32_t rank : {0u, 1u, 2u})
    c.end(rank, orderly, at(10s));
  CHECK(c.end(3, orderly, at(10s)) == effects{life::cluster_ended{life::outcome::rank_failed, "first cause: " + why}});
}

TEST_CASE("C13: a process that cannot even be killed does not hold the supervisor") {
  cluster c;
  c.start();
  c.machine.on_stop(life::stop_asker::terminal, "sigint", at(10s));
  c.machine.on_stop(life::stop_asker::terminal, "sigint twice", at(10s));
  c.machine.on_tick(at(10s) + limits::front_notice);
  REQUIRE(c.machine.on_tick(at(12s) + limits::front_notice).size() == 1);

  const auto out = c.machine.on_tick(at(14s) + limits::front_notice);

  REQUIRE(out.size() == 2);
  CHECK(std::get<life::cluster_ended>(out[1]) ==
        life::cluster_ended{life::outcome::aborted, "leaving at once: sigint twice"});
  CHECK(c.machine.current() == life::state::ended);
}

TEST_CASE("C2: a rank that joins after the order to leave gets the order") {
  cluster c;
  c.stop("sigterm", at(1s));

  CHECK(c.machine.on_joined(rank_id{1}, {cluster::reachable(1), 7}) ==
        effects{life::to_ranks{{rank_id{1}}, shutdown{true, "sigterm"}}});
}

TEST_CASE("C3: a start-up step that crosses with the order to leave is ignored") {
  cluster c;
  c.all_join();
  c.all_agree();
  c.stop("sigterm", at(1s));

  for (std::uint32_t rank = 0; rank < 4; ++rank)
    CHECK(c.machine.on_progress(rank_id{rank}, {life_state::grouped, {}}, at(1s)) == effects{});
  CHECK(c.machine.at(rank_id{0}) == life_state::agreed);
}

TEST_CASE("C24: a rank dies: the front is told that all is lost, the cluster ends, its death is the last line") {
  cluster c;
  c.start();

  const auto out = c.end(2, killed, at(10s));

  const lost everything{every_rank, generation{0}, rank_2_killed, cache_epoch{2}};
  const auto cause = "first cause: " + rank_2_killed;
  CHECK(out == effects{life::report{rank_2_killed}, life::to_ranks{{rank_id{0}}, everything},
                       life::to_ranks{{rank_id{1}, rank_id{3}}, shutdown{false, cause}}});
  CHECK(c.end(1, lost_peer, at(10s)).empty());
  CHECK(c.end(3, lost_peer, at(10s)).empty());
  CHECK(c.end(0, orderly, at(10s)) == effects{life::cluster_ended{life::outcome::rank_failed, cause}});
}

TEST_CASE("C24: the first cause is the same in whatever order the deaths are seen") {
  std::vector<std::uint32_t> order{1, 2, 3};
  do {
    CAPTURE(order[0]);
    CAPTURE(order[1]);
    cluster c;
    c.start();
    for (const auto rank : order)
      c.end(rank, rank == 2 ? killed : lost_peer, at(10s));

    CHECK(c.end(0, orderly, at(10s)).back() ==
          life::effect{life::cluster_ended{life::outcome::rank_failed, "first cause: " + rank_2_killed}});
  } while (std::ranges::next_permutation(order).found);
}

TEST_CASE("C24: when only consequences are seen the first of them is named, after its grace or when all are gone") {
  cluster c;
  c.start();
  REQUIRE(c.end(3, lost_peer, at(10s)).empty());

  SUBCASE("after the grace") {
    CHECK(c.machine.on_tick(at(10s) + limits::first_cause_grace - 1ns).empty());
    CHECK_FALSE(c.machine.on_tick(at(10s) + limits::first_cause_grace).empty());
    CHECK(c.machine.current() == life::state::aborting);
  }
  SUBCASE("when all are gone") {
    for (const std::uint32_t rank : {0u, 1u})
      c.end(rank, lost_peer, at(10s));
    CHECK(c.end(2, lost_peer, at(10s)).back() ==
          life::effect{life::cluster_ended{life::outcome::rank_failed,
                                           "first cause: rank 3 (decode.0) on h left with exit code 72 (peer_gone) "
                                           "while ready; no rank was seen to fail before it"}});
  }
}

TEST_CASE("C38: a rank that reports its own end and stays is put down") {
  cluster c;
  c.start();
  c.machine.on_error(rank_id{3},
                     {.code = static_cast<std::uint16_t>(fault::executor_failed),
                      .message = "nan",
                      .origin = rank_id{3},
                      .call = call_id{5},
                      .where = "decode",
                      .request = {}},
                     at(10s));

  const auto out = c.machine.on_tick(at(10s) + limits::first_cause_grace);

  const auto text =
      "rank 3 (decode.0) on h failed while ready and had not left; it said: executor_failed: nan (call 5, "
      "decode)";
  REQUIRE(out.size() == 3);
  CHECK(out.front() == life::effect{life::report{text}});
  CHECK(std::get<lost>(std::get<life::to_ranks>(out[1]).message).cause == text);
  CHECK(c.machine.current() == life::state::aborting);
}

TEST_CASE("C3: a rank that crashes in a drain makes it an abort") {
  cluster c;
  c.start();
  c.stop("sigterm", at(10s));
  c.machine.on_error(rank_id{1},
                     {.code = static_cast<std::uint16_t>(fault::peer_gone),
                      .message = "front",
                      .origin = rank_id{1},
                      .call = {},
                      .where = {},
                      .request = {}},
                     at(10s));
  CHECK(c.machine.on_tick(at(11s)).empty()); // peers leave in a drain

  c.end(2, {rank_end::kind::signalled, 11, "Segmentation fault"}, at(11s));

  CHECK(c.machine.current() == life::state::aborting);
}

TEST_CASE("C1: a front that fails itself is not told so") {
  cluster c;
  c.start();
  effects out;
  SUBCASE("it died") {
    out = c.end(0, killed, at(10s));
  }
  SUBCASE("it reports its own end and stays") {
    c.machine.on_error(rank_id{0},
                       {.code = static_cast<std::uint16_t>(fault::executor_failed),
                        .message = {},
                        .origin = rank_id{0},
                        .call = {},
                        .where = {},
                        .request = {}},
                       at(10s));
    out = c.machine.on_tick(at(11s));
  }

  CHECK(c.machine.current() == life::state::aborting);
  CHECK(std::ranges::none_of(out, [](const life::effect& e) { return std::holds_alternative<life::to_ranks>(e); }));
}

namespace {

/// One restart of a cell in a minute.
const cluster_spec::restart_section once{.intensity = 1};

/// Ranks 1 and 2, the prefill cell, die of a signal to rank 2 and come back as generation 2.
struct recovery : cluster {
  const std::vector<rank_id> unit{rank_id{1}, rank_id{2}};
  const std::vector<rank_id> others{rank_id{0}, rank_id{3}};

  recovery() : cluster(once) { start(); }

  endpoint reborn(std::uint32_t rank) const {
    auto where = reachable(rank);
    where.born = generation{2};
    return where;
  }
  void lose_prefill() {
    end(2, killed, at(10s));
    REQUIRE(end(1, killed, at(10s)) == effects{life::restart_ranks{unit, generation{2}}});
  }
  effects join_again() {
    REQUIRE(machine.on_joined(rank_id{1}, {reborn(1), 100})->empty());
    return machine.on_joined(rank_id{2}, {reborn(2), 100}).value();
  }
  effects agree_again(const std::string& build = "a") {
    REQUIRE(machine.on_agree(rank_id{1}, {{{"build", "a"}}}, at(11s))->empty());
    return machine.on_agree(rank_id{2}, {{{"build", build}}}, at(11s)).value();
  }
  effects reach_again(life_state state) {
    REQUIRE(machine.on_progress(rank_id{1}, {state, {}}, at(12s))->empty());
    return machine.on_progress(rank_id{2}, {state, {}}, at(12s)).value();
  }
};

} // namespace

TEST_CASE("C46: a lost cell is killed whole, the others are told at once, and it is started when all of it is gone") {
  recovery c;

  const auto out = c.end(2, killed, at(10s));

  CHECK(out == effects{life::news{rank_2_killed + "; restart 1 of at most 1 in 60 s"},
                       life::to_ranks{c.others, lost{c.unit, generation{2}, rank_2_killed, cache_epoch{2}}},
                       life::kill_ranks{{rank_id{1}}}});
  CHECK(c.machine.current() == life::state::recovering);
  CHECK(c.end(1, killed, at(10s)) == effects{life::restart_ranks{c.unit, generation{2}}});
  CHECK(c.machine.born(rank_id{1}) == generation{2});
  CHECK(c.machine.born(rank_id{3}) == generation{1});
}

TEST_CASE("D2: each loss of ranks begins the next epoch of the job, in which the next generation is started") {
  recovery c;
  CHECK(c.machine.epoch() == first_epoch);
  c.end(2, killed, at(10s));
  CHECK(c.machine.epoch() == cache_epoch{2});
  c.end(1, killed, at(10s)); // of the same unit: no further loss
  CHECK(c.machine.epoch() == cache_epoch{2});
  const auto out = c.end(3, killed, at(11s)); // another one: all is lost, and that is news too
  CHECK(c.machine.epoch() == cache_epoch{3});
  const auto told = std::find_if(out.begin(), out.end(), [](const auto& effect) {
    const auto* const order = std::get_if<life::to_ranks>(&effect);
    return order != nullptr && std::holds_alternative<lost>(order->message);
  });
  REQUIRE(told != out.end());
  CHECK(std::get<lost>(std::get<life::to_ranks>(*told).message).epoch == cache_epoch{3});
}

TEST_CASE("C46: a new generation takes the steps of a start, and gets work once every edge to it is made") {
  recovery c;
  c.lose_prefill();

  roster everybody{{cluster::reachable(0), c.reborn(1), c.reborn(2), cluster::reachable(3)}};
  const std::string both = "prefill.0/t0, prefill.0/t1";
  CHECK(c.join_again() == effects{life::report{both + " joined"}, life::to_ranks{c.unit, everybody}});
  CHECK(c.agree_again() ==
        effects{life::to_ranks{c.unit, verdict{true, {}}}, life::to_ranks{c.others, rejoin{{c.reborn(1), c.reborn(2)}}},
                life::report{both + " agreed"}, life::to_ranks{c.unit, proceed{life_state::grouped}}});
  CHECK(c.reach_again(life_state::grouped).back() == life::effect{life::to_ranks{c.unit, proceed{life_state::warm}}});
  CHECK(c.reach_again(life_state::warm).empty()); // ranks 0 and 3 have not made their edges
  CHECK(c.machine.on_rejoined(rank_id{0}, {generation{2}}, at(12s))->empty());
  CHECK(c.machine.on_rejoined(rank_id{3}, {generation{2}}, at(12s))->back() ==
        life::effect{life::to_ranks{c.unit, proceed{life_state::ready}}});
  CHECK(c.reach_again(life_state::ready) == effects{life::news{both + " ready again after 2000 ms, generation 2"},
                                                    life::to_ranks{{rank_id{0}}, recovered{c.unit}}});
  CHECK(c.machine.current() == life::state::ready);
  CHECK(c.machine.on_tick(at(1h)).empty());
}

TEST_CASE("B13: a new generation is held against what the others run") {
  recovery c;
  c.lose_prefill();
  c.join_again();

  c.agree_again("b");

  CHECK(c.machine.current() == life::state::aborting);
}

TEST_CASE("C1: a cell that dies more often than restart.intensity allows ends the cluster, and the line says so") {
  recovery c;
  c.lose_prefill();

  const auto out = c.end(1, killed, at(11s)); // in the middle of its restart

  const auto cause = "first cause: rank 1 (prefill.0/t0) on h was killed by signal 9 (Killed) while spawned; not "
                     "restarted again: restart.intensity (restart 1 of at most 1 in 60 s) is used up";
  // The front serves: it hears first that all cells are lost, and leaves a moment later (K17).
  const auto* const told = std::get_if<life::to_ranks>(&out.back());
  REQUIRE(told != nullptr);
  CHECK(std::ranges::find(told->to, rank_id{0}) == told->to.end());
  REQUIRE(std::holds_alternative<shutdown>(told->message));
  CHECK(std::get<shutdown>(told->message) == shutdown{false, cause});
  CHECK(c.machine.current() == life::state::aborting);
}

TEST_CASE("C46: a second cell lost during a recovery joins it, with a later generation for both") {
  recovery c;
  c.lose_prefill();
  c.join_again();

  const auto out = c.end(3, killed, at(11s));

  const std::vector<rank_id> all_but_front{rank_id{1}, rank_id{2}, rank_id{3}};
  CHECK(std::ranges::count(out, life::effect{life::kill_ranks{c.unit}}) == 1);
  CHECK(std::ranges::count_if(out, [](const life::effect& e) { return std::holds_alternative<life::to_ranks>(e); }) ==
        1);
  CHECK(c.end(1, killed, at(11s)).empty());
  CHECK(c.end(2, killed, at(11s)) == effects{life::restart_ranks{all_but_front, generation{3}}});
}

TEST_CASE(
    "C1, C13: a recovery that cells keep failing into ends when one has used up its restarts, however far apart") {
  cluster c{cluster_spec::restart_section{.intensity = 2, .window_s = 60}};
  c.start();
  const std::vector<std::vector<std::uint32_t>> cells{{1, 2}, {3}};
  std::size_t failures = 0;
  effects out;
  // Each failure comes 50 s after the one before, so each cell fails less often than twice in 60 s, and the recovery
  // is never late (start_ms).
  for (auto now = at(10s); c.machine.current() != life::state::aborting; now += 50s) {
    REQUIRE(failures <= cells.size() * 2);
    const auto& fails = cells[failures++ % cells.size()];
    CHECK(c.machine.on_tick(now).empty());
    out = c.end(fails.front(), killed, now);
    for (std::uint32_t rank = 1; rank < 4; ++rank) // what is left of the lost cells is killed
      if (c.machine.current() == life::state::recovering && c.machine.at(rank_id{rank}) != life_state::failed &&
          std::ranges::any_of(out, [&](const life::effect& each) {
            const auto* const kill = std::get_if<life::kill_ranks>(&each);
            return kill != nullptr && std::ranges::find(kill->ranks, rank_id{rank}) != kill->ranks.end();
          }))
        (void)c.end(rank, killed, now);
  }
  CHECK(failures == cells.size() * 2 + 1);
  CHECK(std::get<life::report>(out.front()).line.ends_with("(restart 2 of at most 2 in 60 s) is used up"));
}

TEST_CASE(
    "C13: a lost cell may take as long as a start to die, and a process that does not die then ends the cluster") {
  recovery c;
  c.end(2, killed, at(10s));
  CHECK(c.machine.on_tick(at(10s) + 60s - 1ns).empty());
  SUBCASE("it dies at last") {
    CHECK(c.end(1, killed, at(69s)) == effects{life::restart_ranks{c.unit, generation{2}}});
    CHECK(c.machine.on_tick(at(10s) + 60s).empty()); // the new generation has a deadline of its own
  }
  SUBCASE("it does not") {
    const auto out = c.machine.on_tick(at(10s) + 60s);
    CHECK(c.machine.current() == life::state::aborting);
    CHECK_FALSE(out.empty());
  }
}

TEST_CASE("C13: a recovery has the deadline of a start, and whom it waits for is lost again") {
  recovery c;
  c.lose_prefill();

  const auto out = c.machine.on_tick(at(10s) + 60s);

  REQUIRE(c.machine.current() == life::state::aborting); // its one restart is used up
  CHECK(std::get<life::report>(out.front())
            .line.starts_with("rank 1 (prefill.0/t0) on h keeps the others from being ready again within "
                              "timeouts.start_ms (60000 ms): waiting for prefill.0/t0 (spawned)"));
}

TEST_CASE("C3: a drain during a recovery waits for nobody who is not there") {
  recovery c;
  c.end(2, killed, at(10s));

  CHECK(c.stop("sigterm", at(10s)).back() == life::effect{life::to_all{shutdown{true, "sigterm"}}});
  CHECK(c.end(1, killed, at(10s)).empty()); // killed: neither news nor restarted
  CHECK(c.end(3, orderly, at(10s)).empty());
  CHECK(c.end(0, orderly, at(10s)) == effects{life::cluster_ended{life::outcome::drained, {}}});
}

TEST_CASE("C15: of an edge that is cut the end that can be restarted is lost, whoever reports it") {
  const error silent{.code = static_cast<std::uint16_t>(fault::timeout),
                     .message = "no frame for 2000 ms",
                     .origin = rank_id{3},
                     .call = {},
                     .where = "edge",
                     .request = {}};
  recovery c;
  SUBCASE("the front says it of decode") {
    c.machine.on_error(rank_id{0}, silent, at(10s));
  }
  SUBCASE("decode says it of the front") {
    auto of_front = silent;
    of_front.origin = rank_id{0};
    c.machine.on_error(rank_id{3}, of_front, at(10s));
  }

  const auto out = c.machine.on_tick(at(10s) + limits::first_cause_grace);

  CHECK(c.machine.current() == life::state::recovering);
  CHECK(std::ranges::count(out, life::effect{life::kill_ranks{{rank_id{3}}}}) == 1);
}

TEST_CASE("C15, C43: a complaint about a generation that has gone costs its successor nothing, also in a drain") {
  recovery c;
  c.lose_prefill();
  c.join_again();
  c.agree_again();
  c.reach_again(life_state::grouped);
  c.reach_again(life_state::warm);
  for (const std::uint32_t stayed : {0u, 3u})
    REQUIRE(c.machine.on_rejoined(rank_id{stayed}, {generation{2}}, at(12s)));
  c.reach_again(life_state::ready);
  REQUIRE(c.machine.current() == life::state::ready);
  SUBCASE("while it serves") {}
  SUBCASE("in a drain") {
    c.machine.on_stop(life::stop_asker::terminal, "signal", at(13s));
  }
  const auto state = c.machine.current();

  CHECK(c.machine.on_complaint(rank_id{3}, rank_id{1}, generation{1}, false, at(13s)).empty());
  CHECK(c.machine.on_complaint(rank_id{3}, rank_id{1}, generation{2}, true, at(13s)).empty()); // starved
  CHECK(c.machine.on_complaint(rank_id{3}, rank_id{99}, generation{2}, false, at(13s)).empty());
  CHECK(c.machine.on_tick(at(13s) + limits::first_cause_grace).empty());
  CHECK(c.machine.current() == state);
  c.machine.on_complaint(rank_id{3}, rank_id{1}, generation{2}, false, at(13s));
  c.machine.on_tick(at(13s) + limits::first_cause_grace);
  CHECK(c.machine.current() != state);
}

TEST_CASE("C43: a rank that gives no sign of life is put down and its cell started again, or the cluster ended") {
  SUBCASE("restarted") {
    recovery c;
    const auto out = c.machine.on_silent(rank_id{2}, 2s, at(10s));
    CHECK(c.machine.current() == life::state::recovering);
    CHECK(std::ranges::count(out, life::effect{life::kill_ranks{c.unit}}) == 1);
    CHECK(
        std::get<life::news>(out.front()).line ==
        "rank 2 (prefill.0/t1) on h gave no sign of life for 2000 ms while ready, timeouts.kill_ms (2000 ms); restart "
        "1 of at most 1 in 60 s");
    CHECK(c.machine.on_silent(rank_id{1}, 2s, at(10s)).empty()); // of the same cell: going anyway
  }
  SUBCASE("ended") {
    cluster c;
    c.start();
    const auto out = c.machine.on_silent(rank_id{2}, 2s, at(10s));
    CHECK(c.machine.current() == life::state::aborting);
    CHECK(out.back() == life::effect{life::kill_ranks{{rank_id{2}}}});
  }
}

TEST_CASE(
    "K14: of two edges that break at once the second is judged too, though its ends stay when the first is lost") {
  recovery c;
  const auto cut = [&](std::uint32_t from, std::uint32_t of, time_point now) {
    return c.machine.on_error(rank_id{from},
                              {.code = static_cast<std::uint16_t>(fault::peer_gone),
                               .message = "edge is gone",
                               .origin = rank_id{of},
                               .call = {},
                               .where = "edge",
                               .request = {}},
                              now);
  };
  CHECK(cut(0, 1, at(10s)).empty());
  CHECK(cut(0, 3, at(10s + 100ms)).empty());
  c.machine.on_tick(at(10s) + limits::first_cause_grace);
  REQUIRE(c.machine.current() == life::state::recovering);
  REQUIRE(c.machine.born(rank_id{3}) == generation{1});

  CHECK(c.machine.on_tick(at(10s + 100ms) + limits::first_cause_grace - 1ns).empty());
  const auto out = c.machine.on_tick(at(10s + 100ms) + limits::first_cause_grace);

  CHECK(c.machine.current() == life::state::recovering);
  CHECK(c.machine.take_blamed()->rank == rank_id{3});
  REQUIRE_FALSE(out.empty());
  CHECK(std::get<life::news>(out.front())
            .line.starts_with("rank 3 (decode.0) on h cannot be used: rank 0 (front) on h says: peer_gone"));
  for (const std::uint32_t rank : {1u, 2u})
    CHECK(c.end(rank, killed, at(11s)).empty());
  CHECK(c.end(3, killed, at(11s)) == effects{life::restart_ranks{{rank_id{1}, rank_id{2}, rank_id{3}}, generation{3}}});
}

TEST_CASE("A11: a rank that breaks the protocol of its control socket is to blame for it") {
  cluster c;
  c.start();
  CHECK(c.machine.on_bad_frame(rank_id{2}, {fault::bad_magic, "0x47455420"}, at(5s)).empty());
  const auto out = c.machine.on_end(rank_id{2}, {rank_end::kind::exited, 1, "failed"}, at(5s));
  REQUIRE(c.machine.current() == life::state::aborting);
  const auto why = std::get<life::report>(out.front()).line;
  CHECK(why.find("rank 2 (prefill.0/t1)") != why.npos);
  CHECK(why.find("0x47455420") != why.npos);
  CHECK(why.find("control socket") != why.npos);
}

TEST_CASE("A11: an order that cannot be sent blames its addressee, unless that one has closed its socket") {
  for (const auto code : {fault::peer_gone, fault::frame_too_long}) {
    cluster c;
    c.start();
    c.machine.on_unsent(rank_id{3}, {code, "an order"}, at(5s));
    (void)c.machine.on_tick(at(5s) + limits::first_cause_grace);
    CHECK((c.machine.current() == life::state::ready) == (code == fault::peer_gone));
  }
}

TEST_CASE("C3: a rank that closes its control socket and stays is named and killed once its grace is over") {
  cluster c;
  c.start();
  c.machine.on_control_lost(rank_id{3}, at(5s));
  const auto over = at(5s) + limits::control_lost_grace;
  CHECK(c.machine.on_tick(over - 1ms).empty());
  SUBCASE("it leaves by itself") {
    c.machine.on_end(rank_id{3}, {rank_end::kind::exited, 1, "failed"}, over);
    for (const auto& each : c.machine.on_tick(over))
      CHECK_FALSE(std::holds_alternative<life::kill_ranks>(each));
  }
  SUBCASE("it stays") {
    CHECK(c.machine.on_tick(over) == effects{life::kill_ranks{{rank_id{3}}}});
    CHECK(c.machine.on_tick(over).empty()); // once
    const auto out = c.machine.on_end(rank_id{3}, {rank_end::kind::signalled, 9, "Killed"}, over);
    REQUIRE(c.machine.current() == life::state::aborting);
    CHECK(std::get<life::report>(out.front()).line.find("closed its control socket and did not leave") !=
          std::string::npos);
  }
}

TEST_CASE(
    "A11: of a rank whose control socket has ended, its end is awaited within a bound before others are believed") {
  recovery c;
  const auto closed = at(10s);
  const auto says = [&](std::uint32_t from) {
    (void)c.machine.on_error(rank_id{from},
                             {.code = static_cast<std::uint16_t>(fault::peer_gone),
                              .message = "rank 2",
                              .origin = rank_id{2},
                              .call = {},
                              .where = "edge",
                              .request = {}},
                             closed);
  };
  says(0);
  c.machine.on_control_lost(rank_id{2}, closed);
  CHECK(c.machine.on_tick(closed + limits::first_cause_grace).empty());
  CHECK(c.machine.on_tick(closed + limits::control_lost_grace - 1ns).empty());
  SUBCASE("it comes") {
    c.machine.on_end(rank_id{2}, killed, closed + 900ms);
    REQUIRE(c.machine.current() == life::state::recovering);
    CHECK(c.machine.take_blamed()->text.find("was killed by signal 9") != std::string::npos);
  }
  SUBCASE("it does not come") {
    (void)c.machine.on_tick(closed + limits::control_lost_grace);
    REQUIRE(c.machine.current() == life::state::recovering);
    CHECK(c.machine.take_blamed()->rank == rank_id{2});
  }
}

TEST_CASE("C3: a rank that is killed anyway is not killed again for its control socket, its successor is heard anew") {
  recovery c;
  c.end(2, killed, at(10s)); // and rank 1 is killed for it
  c.machine.on_control_lost(rank_id{1}, at(10s));
  CHECK(c.machine.on_tick(at(10s) + 2 * limits::control_lost_grace).empty());
  c.end(1, killed, at(13s));
  CHECK(c.machine.on_tick(at(13s) + 2 * limits::control_lost_grace).empty());
  c.machine.on_control_lost(rank_id{1}, at(20s));
  CHECK(c.machine.on_tick(at(20s) + limits::control_lost_grace) == effects{life::kill_ranks{{rank_id{1}}}});
}
