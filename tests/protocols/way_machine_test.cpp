#include "protocols/transfers/way_machine.hpp"

#include <doctest/doctest.h>

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

using state = way_machine::state;
using wanted = way_machine::wanted;

constexpr time_point begin{100s};
const failure broken{fault::transfer_failed, "rank 7: reset"};

way_machine open_since(time_point now) {
  way_machine way;
  way.on_knocked(now);
  way.on_admitted();
  way.on_open();
  return way;
}

} // namespace

TEST_CASE("C47: a try to reach a peer has one deadline from the knock to the open connection, and a pause after it") {
  for (const bool admitted : {false, true}) {
    CAPTURE(admitted);
    way_machine way;
    CHECK(way.next(begin) == wanted::knock);
    way.on_knocked(begin);
    CHECK(way.next(begin) == wanted::ask);
    if (admitted)
      way.on_admitted();
    const auto over = begin + way_machine::try_patience;
    CHECK(way.next(over - 1ns) == (admitted ? wanted::nothing : wanted::ask));
    CHECK(way.is_under_way());
    CHECK(way.next(over) == wanted::give_up);
    way.on_given_up(over);
    CHECK_FALSE(way.is_under_way());
    CHECK(way.next(over + way_machine::try_pause - 1ns) == wanted::nothing);
    CHECK(way.next(over + way_machine::try_pause) == wanted::knock);
  }
}

TEST_CASE("C31: a peer whose connection broke in use is lost unless another comes to be in time") {
  auto way = open_since(begin);
  way.on_broken(broken, true, begin);
  CHECK(way.has_trouble());
  CHECK(way.next(begin) == wanted::knock); // at once: nothing was wrong with the last try
  const auto over = begin + way_machine::trouble_patience;
  way.on_broken({fault::transfer_failed, "later"}, true, over - 1ms); // the first one counts
  CHECK_FALSE(way.is_due(over - 1ns));
  SUBCASE("none comes") {
    CHECK(way.is_due(over) == broken);
    way.on_lost();
    CHECK(way.is_lost());
    CHECK_FALSE(way.is_due(over + 1h));
    way.on_broken(broken, true, over);
    CHECK(way.is_lost());
    CHECK(way.next(over + 1h) == wanted::nothing);
  }
  SUBCASE("one comes") {
    way.on_knocked(over - 1ms);
    way.on_admitted();
    way.on_open();
    CHECK_FALSE(way.is_due(over));
    CHECK(way.next(over) == wanted::nothing);
  }
}

TEST_CASE("C47: a connection that breaks while it rests is no trouble") {
  auto way = open_since(begin);
  way.on_broken(broken, false, begin);
  CHECK(way.current() == state::closed);
  CHECK_FALSE(way.has_trouble());
  CHECK_FALSE(way.is_due(begin + 1h));
  CHECK(way.next(begin) == wanted::knock);
}

TEST_CASE("K5: no later try mends a door where nobody listens or another peer does") {
  for (const auto why : {fault::peer_gone, fault::wrong_job, fault::wrong_rank, fault::stale_generation})
    CHECK(way_machine::is_final(why));
  for (const auto why : {fault::timeout, fault::queue_full, fault::transfer_failed})
    CHECK_FALSE(way_machine::is_final(why));
}
