#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "protocols/cluster/rank_life_machine.hpp"

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

rank_life_machine after(std::size_t steps) {
  rank_life_machine rank;
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
  for (const auto order : {message_type::lost, message_type::readmit, message_type::shutdown})
    CHECK(supersedes_readmission(order));
  for (const auto order : {message_type::inject, message_type::regained, message_type::roster, message_type::verdict,
                           message_type::proceed, message_type::heartbeat})
    CHECK_FALSE(supersedes_readmission(order));
}
