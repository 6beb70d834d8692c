#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "protocols/cluster/life_machine.hpp"
#include "protocols/cluster/rank_life_machine.hpp"
#include "tests/protocols/serve_fixture.hpp"

using namespace troupe::protocols;

namespace {

/// The legal way, as steps that can be taken one by one.
const std::vector<std::function<bool(rank_life_machine&)>> way_to_ready{
    [](rank_life_machine& rank) { return rank.on_reached(life_state::joined).has_value(); },
    [](rank_life_machine& rank) { return rank.on_roster().has_value(); },
    [](rank_life_machine& rank) {
      return rank.on_verdict({true, {}}).has_value();
    },
    [](rank_life_machine& rank) { return rank.on_proceed({life_state::grouped}).has_value(); },
    [](rank_life_machine& rank) { return rank.on_reached(life_state::grouped).has_value(); },
    [](rank_life_machine& rank) { return rank.on_proceed({life_state::warm}).has_value(); },
    [](rank_life_machine& rank) { return rank.on_reached(life_state::warm).has_value(); },
    [](rank_life_machine& rank) { return rank.on_proceed({life_state::ready}).has_value(); },
    [](rank_life_machine& rank) { return rank.on_reached(life_state::ready).has_value(); },
};

rank_life_machine after(std::size_t steps, rank_id self = prefill_leader) {
  rank_life_machine rank{self};
  rank.on_launch(reader_plan());
  for (std::size_t step = 0; step < steps; ++step)
    REQUIRE(way_to_ready[step](rank));
  return rank;
}

} // namespace

TEST_CASE("B20: a rank goes from spawned to ready in the supervisor's order") {
  const auto rank = after(way_to_ready.size());

  CHECK(rank.current() == life_state::ready);
  CHECK(rank.heading() == life_state::ready);
}

TEST_CASE("B20: at every place of the way only the next step is legal") {
  for (std::size_t place = 0; place <= way_to_ready.size(); ++place)
    for (std::size_t step = 0; step < way_to_ready.size(); ++step) {
      CAPTURE(place);
      CAPTURE(step);
      auto rank = after(place);
      const auto before = rank.current();
      const bool taken = way_to_ready[step](rank);
      CHECK(taken == (step == place));
      if (!taken)
        CHECK(rank.current() == before);
    }
}

TEST_CASE("G3: a step is reported to the supervisor, an order out of turn is named") {
  auto rank = after(4);

  CHECK(rank.heading() == life_state::grouped);
  CHECK(rank.on_proceed({life_state::warm}).error() ==
        failure{fault::illegal_transition, "an order came to proceed to warm while agreed, on the way to grouped"});
  CHECK(rank.on_reached(life_state::grouped, "4 edges").value() == progress{life_state::grouped, "4 edges"});
}

TEST_CASE("B13: agreement comes from the verdict, no rank declares it") {
  auto rank = after(2);
  REQUIRE(rank.heading() == life_state::agreed);

  CHECK(rank.on_reached(life_state::agreed).error().code == fault::illegal_transition);
}

TEST_CASE("G13: a verdict against fails the rank with the difference") {
  auto rank = after(2);

  CHECK(rank.on_verdict({false, "build: a, b"}).error() == failure{fault::parity_mismatch, "build: a, b"});
  CHECK(rank.current() == life_state::failed);
  CHECK_FALSE(rank.on_proceed({life_state::grouped}));
}

TEST_CASE("C3: a rank can be told to leave at every place of the way") {
  for (std::size_t place = 0; place <= way_to_ready.size(); ++place)
    for (const bool drain : {true, false}) {
      CAPTURE(place);
      CAPTURE(drain);
      auto rank = after(place);
      REQUIRE(rank.on_shutdown({drain, "asked"}));
      CHECK(rank.current() == life_state::draining);
      CHECK(rank.aborting() == !drain);

      // A step that ends after the order is not told to the supervisor any more.
      CHECK(rank.on_reached(life_state::grouped).value() == std::nullopt);
      CHECK_FALSE(rank.on_proceed({life_state::grouped}));
      CHECK(rank.on_left());
      CHECK(rank.current() == life_state::left);
      CHECK_FALSE(rank.on_shutdown({drain, "again"}));
    }
}

TEST_CASE("C3: an abort may follow a drain and stays") {
  auto rank = after(way_to_ready.size());
  REQUIRE(rank.on_shutdown({true, "sigterm"}));
  REQUIRE(rank.on_shutdown({true, "sigterm again"}));
  CHECK_FALSE(rank.aborting());

  REQUIRE(rank.on_shutdown({false, "first cause: rank 3"}));
  REQUIRE(rank.on_shutdown({true, "late"}));
  CHECK(rank.aborting());
}

TEST_CASE("C10: a rank that was not told to leave does not leave") {
  auto rank = after(way_to_ready.size());

  CHECK(rank.on_left().error().code == fault::illegal_transition);
}

TEST_CASE("K14: edges to a newcomer are left for the next recovery and for the end, and for nothing else") {
  for (const auto order : {message_type::lost, message_type::rejoin, message_type::shutdown})
    CHECK(supersedes_rejoin(order));
  for (const auto order : {message_type::inject, message_type::recovered, message_type::roster, message_type::verdict,
                           message_type::proceed, message_type::heartbeat})
    CHECK_FALSE(supersedes_rejoin(order));
}

namespace {

using namespace std::chrono_literals;

rank_life_machine serving(rank_id self = prefill_leader) {
  return after(way_to_ready.size(), self);
}

rank_inbox failed(const failure& cause, const std::string& where, time_point since) {
  rank_inbox posted;
  posted.trouble.note({cause, where, since});
  return posted;
}

rank_inbox gone(rank_id peer, const failure& cause = {fault::peer_gone, "closed"}) {
  rank_inbox posted;
  posted.gone.emplace_back(peer, cause);
  return posted;
}

const failure wedged{fault::timeout, "a collective"};
const failure broken{fault::executor_failed, "a kernel"};

} // namespace

TEST_CASE("C1: of several failures of a rank the first counts, in one batch as in two") {
  auto rank = serving();
  SUBCASE("one batch") {
    auto posted = failed(wedged, "executor", at(1s));
    posted.trouble.note({broken, "ingest", at(2s)});
    CHECK(rank.on_inbox(posted, at(3s)).empty());
  }
  SUBCASE("two") {
    CHECK(rank.on_inbox(failed(wedged, "executor", at(1s)), at(1s)).empty());
    CHECK(rank.on_inbox(failed(broken, "ingest", at(2s)), at(2s)).empty());
  }
  CHECK(rank.must_leave(at(3s)) == wedged); // at once: nothing explains it away
  CHECK(rank.where_of(wedged) == "executor");
  CHECK(rank.where_of(broken) == "ready");
}

TEST_CASE("C1, C24: a peer's end gives way to the failure that it was a consequence of, once") {
  for (const bool one_batch : {true, false}) {
    CAPTURE(one_batch);
    auto rank = serving();
    auto first = failed({fault::peer_gone, "rank 4"}, "edge", at(1s));
    if (!one_batch)
      CHECK(rank.on_inbox(std::exchange(first, {}), at(1s)).empty());
    first.trouble.note({broken, "executor", at(1100ms)});
    first.trouble.note({wedged, "watchdog", at(1100ms)});
    first.trouble.note({{fault::peer_gone, "rank 5"}, "edge", at(1100ms)});
    CHECK(rank.on_inbox(first, at(1100ms)).empty());
    CHECK(rank.must_leave(at(1100ms)) == broken);
    CHECK(rank.where_of(broken) == "executor");
  }
}

TEST_CASE("C1: the end of a rank of the own cell ends this one, after the time in which the order to leave may come") {
  auto rank = serving();
  CHECK(rank.on_inbox(gone(prefill_worker, {fault::bad_checksum, "4 bytes"}), at(5s)).empty());

  const auto over = at(5s) + limits::explanation_grace;
  CHECK_FALSE(rank.must_leave(over - 1ms));
  CHECK(rank.nap(500ms) == limits::explanation_grace);
  CHECK(rank.nap(20ms) == 20ms);
  CHECK(rank.must_leave(over) == failure{fault::peer_gone, "rank 4: bad_checksum: 4 bytes"});
  CHECK(rank.where_of(*rank.must_leave(over)) == "edge");

  SUBCASE("which explains it") {
    REQUIRE(rank.on_shutdown({true, "sigterm"}));
    CHECK_FALSE(rank.must_leave(over + 10s));
    CHECK(rank.nap(500ms) == 500ms);
  }
  SUBCASE("and which no failure of its own is explained by") {
    REQUIRE(rank.on_shutdown({true, "sigterm"}));
    CHECK(rank.on_inbox(failed(broken, "executor", over), over).empty());
    CHECK(rank.must_leave(over) == broken);
  }
}

TEST_CASE("C11: of the end of any other rank, the front too, the supervisor is told, and this rank goes on") {
  for (const auto peer : {front_rank, encode_rank, decode_rank}) {
    CAPTURE(peer.value);
    auto rank = serving();
    const auto told = rank.on_inbox(gone(peer), at(1s));
    REQUIRE(told.size() == 1);
    CHECK(told[0].origin == peer);
    CHECK(told[0].code == static_cast<std::uint16_t>(fault::peer_gone));
    CHECK(told[0].message == "rank " + std::to_string(peer.value) + ": peer_gone");
    CHECK(told[0].where == "edge");
    CHECK_FALSE(rank.must_leave(at(100s)));
    CHECK_FALSE(rank.may_leave());
  }
  auto rank = serving();
  CHECK(rank.on_inbox(gone(decode_rank, {fault::timeout, "no frame"}), at(1s)).at(0).message ==
        "rank 5: timeout: no frame");
  REQUIRE(rank.on_shutdown({true, "sigterm"}));
  CHECK(rank.on_inbox(gone(encode_rank), at(2s)).empty()); // in a drain they leave
  CHECK(rank.on_inbox(gone(rank_id{99}), at(2s)).empty());
}

TEST_CASE("C14: in a drain the front leaves when its requests have ended, the others when it has gone") {
  rank_inbox drained;
  drained.drained = true;
  for (const auto self : {front_rank, encode_rank, prefill_worker, decode_rank}) {
    CAPTURE(self.value);
    auto rank = serving(self);
    CHECK(rank.on_shutdown({true, "sigterm"}).value());
    CHECK_FALSE(rank.may_leave());
    (void)rank.on_inbox(self == front_rank ? gone(encode_rank) : drained, at(1s));
    CHECK_FALSE(rank.may_leave());
    (void)rank.on_inbox(self == front_rank ? drained : gone(front_rank), at(2s));
    CHECK(rank.may_leave());
  }
}

TEST_CASE("C14: a front that is gone before the order to drain comes need not go again") {
  auto rank = serving();
  (void)rank.on_inbox(gone(front_rank), at(1s));
  CHECK_FALSE(rank.may_leave());
  REQUIRE(rank.on_shutdown({true, "sigterm"}));
  CHECK(rank.may_leave());
}

TEST_CASE("C3: a rank that was never ready, or that is told to leave at once, waits for nobody") {
  auto early = after(way_to_ready.size() - 1);
  CHECK_FALSE(early.on_shutdown({true, "sigterm"}).value());
  CHECK(early.may_leave());

  auto late = serving();
  CHECK(late.on_shutdown({true, "sigterm"}).value());
  CHECK(late.on_shutdown({true, "again"}).value());
  CHECK_FALSE(late.may_leave());
  CHECK(late.on_shutdown({false, "first cause: rank 5"}).value());
  CHECK(late.may_leave());
}

TEST_CASE("C3: a stub leaves as soon as it is told to") {
  cluster_spec spec;
  spec.name = "stubs";
  spec.pools = {{"stub", role_kind::stub, 3, 1, 1}};
  rank_life_machine rank{rank_id{1}};
  rank.on_launch(make_plan(spec).value());
  for (const auto& step : way_to_ready)
    REQUIRE(step(rank));
  CHECK_FALSE(rank.may_leave());
  REQUIRE(rank.on_shutdown({true, "sigterm"}));
  CHECK(rank.may_leave());
}

TEST_CASE("K14: a rank that stayed says that it has taken the order to admit, and then how it went") {
  auto rank = serving();
  const rejoin order{{endpoint{
      .rank = decode_rank, .born = generation{4}, .unix_path = "r5", .tcp_address = {}, .fabric_address = {}}}};
  CHECK(rank.on_rejoin({}).error().code == fault::bad_value);
  CHECK(rank.on_rejoin(order).value() == rejoined{generation{4}, 1});
  using answer = std::variant<rejoined, error>;
  CHECK(rank.on_admitted(order, {}, std::nullopt) == answer{rejoined{generation{4}, 0}});
  CHECK_FALSE(rank.on_admitted(order, fail(fault::cancelled), std::nullopt));

  const failure late{fault::timeout, "no edge from decode.0"};
  CHECK(rank.on_admitted(order, tl::unexpected{late}, decode_rank) ==
        answer{refuse_to_rejoin(prefill_leader, decode_rank, late)});
  CHECK(rank.on_admitted(order, tl::unexpected{late}, std::nullopt) ==
        answer{refuse_to_rejoin(prefill_leader, std::nullopt, late)});
  CHECK_FALSE(rank.must_leave(at(1h))); // it goes on with what it has
}

TEST_CASE("K14: who cannot make an edge while it starts names its other end, later on itself") {
  const failure late{fault::timeout, "no edge"};
  for (std::size_t place = 0; place <= way_to_ready.size(); ++place)
    for (const bool unreached : {true, false}) {
      CAPTURE(place);
      CAPTURE(unreached);
      auto rank = after(place);
      const bool another = unreached && rank.current() < life_state::ready;
      const auto words = rank.on_failed(late, "grouped", unreached ? std::optional{decode_rank} : std::nullopt);
      CHECK(words.of_another == another);
      CHECK(words.said.origin == (another ? decode_rank : prefill_leader));
      CHECK(words.said.message == "no edge");
      CHECK(words.said.where == "grouped");
      CHECK(rank.current() == life_state::failed);
      CHECK_FALSE(rank.on_shutdown({true, "late"}));
    }
}

TEST_CASE("K13: a rank's main thread is watched from ready on") {
  for (std::size_t place = 0; place <= way_to_ready.size(); ++place)
    CHECK(after(place).is_watched() == (place == way_to_ready.size()));
  auto rank = serving();
  REQUIRE(rank.on_shutdown({true, "sigterm"}));
  CHECK(rank.is_watched());
}
