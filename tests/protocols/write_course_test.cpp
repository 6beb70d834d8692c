#include "protocols/transfers/write_course.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

using state = write_course::state;

constexpr generation owner{3};
constexpr time_point deadline{10s};
constexpr lease held{owner, time_point{5s}};

write_sight sight() {
  return {.to = rank_id{7}, .gone = nullptr, .owner_now = owner, .handed_over = false};
}

failure end_of(const write_sight& at, time_point now) {
  const auto judged = check_write(held, deadline, at, now);
  return judged ? failure{} : judged.error();
}

} // namespace

TEST_CASE("K1: a write goes on until its deadline, under its lease, to the generation that gave it") {
  CHECK(check_write(held, deadline, sight(), time_point{5s} - 1ns));
  CHECK(end_of(sight(), time_point{5s}).code == fault::stale_grant);
  auto newer = sight();
  newer.owner_now = owner.next();
  CHECK(end_of(newer, time_point{1s}).code == fault::stale_grant);
}

TEST_CASE("K1: copies that a device has are not called back by a lease, only by their deadline or the target's end") {
  auto at = sight();
  at.handed_over = true;
  CHECK(check_write(held, deadline, at, deadline - 1ns));
  CHECK(end_of(at, deadline) == failure{fault::timeout, "a write to rank 7"});
}

TEST_CASE("E10: the end of a write's target comes before its deadline, and that before its lease") {
  const failure gone{fault::peer_gone, "rank 7: closed"};
  auto at = sight();
  at.gone = &gone;
  CHECK(end_of(at, deadline + 1s) == gone);
  at.gone = nullptr;
  CHECK(end_of(at, deadline + 1s).code == fault::timeout);
  at.to.reset();
  CHECK(end_of(at, deadline).what == "a write to this rank itself");
}

TEST_CASE("I31: the word that all pieces are there waits until every other operation has completed") {
  for (const std::size_t pieces : {1u, 2u, 5u}) {
    CAPTURE(pieces);
    write_course write;
    for (std::size_t i = 1; i < pieces; ++i) {
      REQUIRE(write.may_post(false));
      write.on_posted(false);
    }
    for (std::size_t left = pieces - 1; left > 0; --left) {
      CHECK_FALSE(write.may_post(true));
      write.on_completed();
    }
    CHECK(write.current() == state::under_way);
    CHECK_FALSE(write.is_in_flight());
    REQUIRE(write.may_post(true));
    write.on_posted(true);
    CHECK(write.current() == state::under_way);
    CHECK_FALSE(write.goes_on());
    write.on_completed();
    CHECK(write.current() == state::delivered);
  }
}

TEST_CASE("K1: a write whose lease ends posts nothing more and ends when nothing of it is in flight") {
  const failure ended{fault::stale_grant, "the lease ended"};
  for (const std::size_t in_flight : {0u, 1u, 3u}) {
    CAPTURE(in_flight);
    write_course write;
    for (std::size_t i = 0; i < in_flight; ++i)
      write.on_posted(false);
    write.on_lease_ended(ended);
    CHECK_FALSE(write.may_post(false));
    CHECK_FALSE(write.may_post(true));
    for (std::size_t i = 0; i < in_flight; ++i) {
      CHECK(write.current() == state::under_way);
      write.on_completed();
    }
    CHECK(write.current() == state::revoked);
    CHECK(write.revoked() == ended);
  }
}
