#include "protocols/wire/link_machine.hpp"

#include <doctest/doctest.h>

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

constexpr time_point begin{100s};

} // namespace

TEST_CASE("K9: a link's queue is bounded in frames and in bytes, and its peer in frames that are not worked off") {
  const link_bounds held{.queue_frames_max = 3, .queue_bytes_max = 100, .unhandled_max = 2};
  CHECK(held.may_queue(2, 60, 40));
  CHECK_FALSE(held.may_queue(3, 0, 0));
  CHECK_FALSE(held.may_queue(0, 60, 41));
  CHECK(held.may_read(1));
  CHECK_FALSE(held.may_read(2));
  CHECK(link_bounds{}.may_read(1'000'000));
}

TEST_CASE("E21: a full lane holds back what is queued for it and ends nothing") {
  CHECK_FALSE(ends_link(fault::lane_full));
  CHECK(ends_link(fault::peer_gone));
  CHECK(ends_link(fault::frame_too_long));
}

TEST_CASE("D2: a frame that is older than its edge is dropped, and its link goes on") {
  CHECK(drops_frame(fault::stale_epoch));
  CHECK_FALSE(ends_link(fault::stale_epoch));
  CHECK_FALSE(drops_frame(fault::lane_full)); // that one waits
  CHECK_FALSE(drops_frame(fault::peer_gone));
}

TEST_CASE("C20, K9: a link that leaves is over when all has been sent, or after its deadline, and tells nobody") {
  link_machine link;
  CHECK_FALSE(link.is_over(true, begin));
  link.on_leave(begin);
  CHECK_FALSE(link.is_open()); // frames of its peer are dropped
  const auto over = begin + limits::link_leave_deadline;
  CHECK(link.is_over(true, begin));
  CHECK_FALSE(link.is_over(false, over - 1ns));
  CHECK(link.is_over(false, over));
  CHECK_FALSE(link.on_lost());
  CHECK(link.is_over(false, begin));
}

TEST_CASE("C20: the owner of a link hears once that it is lost, and never of one that it has let go") {
  link_machine link;
  CHECK(link.on_lost());
  CHECK_FALSE(link.on_lost());
  link.on_leave(begin);
  CHECK(link.is_gone());
}

TEST_CASE("K9: who begins a frame has so long to end it, counted anew for each frame") {
  link_machine link;
  CHECK_FALSE(link.on_rest_missing(2s, begin));
  CHECK_FALSE(link.on_rest_missing(2s, begin + 2s - 1ns));
  SUBCASE("it comes") {
    link.on_no_rest();
    CHECK_FALSE(link.on_rest_missing(2s, begin + 2s));
    CHECK_FALSE(link.on_rest_missing(2s, begin + 4s - 1ns));
  }
  SUBCASE("it does not") {
    CHECK(link.on_rest_missing(2s, begin + 2s)->code == fault::timeout);
  }
  link_machine patient;
  CHECK_FALSE(patient.on_rest_missing(duration::max(), begin));
  CHECK_FALSE(patient.on_rest_missing(duration::max(), begin + 1000h));
}

TEST_CASE("C4: heartbeats go out once a period, and late ones are not made up for") {
  beat_schedule beats{100ms};
  CHECK(beats.is_due(begin));
  CHECK_FALSE(beats.is_due(begin + 99ms));
  CHECK(beats.left(begin + 40ms) == 60ms);
  CHECK(beats.is_due(begin + 1s));
  CHECK_FALSE(beats.is_due(begin + 1s + 99ms));
  CHECK(beats.left(begin + 1s + 100ms) <= 0ms);
}
