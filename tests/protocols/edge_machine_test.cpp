#include "protocols/cluster/edge_machine.hpp"
#include "protocols/serve/roles.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "protocols/limits.hpp"
#include "tests/protocols/serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

constexpr generation first{1};
constexpr generation second{2};
constexpr generation third{3};

/// A rank is started in the epoch that begins with the loss of its predecessor.
constexpr cache_epoch epoch_of(generation born) {
  return cache_epoch{born.value};
}

endpoint end_of(rank_id rank, generation born) {
  return {.rank = rank, .born = born, .unix_path = "r", .tcp_address = {}, .fabric_address = {}};
}

roster all_of(const cluster_plan& plan, generation born = first) {
  roster out;
  for (const auto& rank : plan.ranks)
    out.ranks.push_back(end_of(rank.id, born));
  return out;
}

hello for_lane(const lane_name& which) {
  return {.shown = {}, .nonce = {}, .channel = which.channel, .group = which.group, .build = {}, .capabilities = {}};
}

lane_name control_of(rank_id peer) {
  return {peer, channel_kind::control, {}};
}

const cluster_plan plan = reader_plan();
const group_id prefill_group = *plan.cell(plan.cells_of(serve_role::prefill).front()).group;

/// After the roster of a first start.
const recovery_deadlines waits{cluster_spec::timeouts_section{}};

edge_machine started(rank_id self, generation born = first) {
  edge_machine edges{plan, self, born, epoch_of(born), waits};
  REQUIRE(edges.on_roster(all_of(plan)));
  return edges;
}

fault refusal(const edge_machine& edges, const lane_name& which, generation born) {
  const auto judged = edges.validate_hello(which.peer, born, epoch_of(born), for_lane(which));
  REQUIRE_FALSE(judged);
  return judged.error().code;
}

} // namespace

TEST_CASE("B9: every lane of the plan has two ends, and one of them makes it") {
  std::size_t lanes = 0;
  for (const auto& rank : plan.ranks) {
    const auto here = started(rank.id);
    for (const auto& which : here.planned()) {
      CAPTURE(rank.id.value);
      CAPTURE(which.peer.value);
      const auto there = started(which.peer);
      const lane_name from_there{rank.id, which.channel, which.group};
      CHECK(there.planned().contains(from_there));
      CHECK(here.begins(which) != there.begins(from_there));
      CHECK(here.validate_hello(which.peer, first, epoch_of(first), for_lane(which)).has_value() ==
            there.begins(from_there));
      ++lanes;
    }
  }
  // Edges of reader_plan: the front with 5, encode 2 x 2, prefill 2 x 1, within prefill 1; tokens; the group.
  CHECK(lanes == 2 * (12 + 1 + 1));
}

TEST_CASE("B9: groups and the tokens of a decode leader are their executor's, all else the wire's") {
  using enum edge_machine::driver;
  const lane_name to_front{front_rank, channel_kind::tokens, {}};
  const lane_name from_decode{decode_rank, channel_kind::tokens, {}};
  CHECK(started(decode_rank).planned().contains(to_front));
  CHECK(started(decode_rank).driver_of(to_front) == executor);
  CHECK(started(front_rank).driver_of(from_decode) == wire);
  CHECK(started(front_rank).driver_of(control_of(decode_rank)) == wire);
  CHECK(started(prefill_leader).driver_of({prefill_worker, channel_kind::group, prefill_group}) == executor);
}

TEST_CASE("B9: a hello for an edge that the plan does not have, or from the wrong end of it, is refused by name") {
  const auto edges = started(prefill_worker);
  CHECK(refusal(edges, {encode_rank, channel_kind::group, prefill_group}, first) == fault::wrong_group);
  CHECK(refusal(edges, {prefill_leader, channel_kind::group, group_id{77}}, first) == fault::wrong_group);
  CHECK(refusal(edges, {encode_rank, channel_kind::tokens, {}}, first) == fault::wrong_rank);
  CHECK(refusal(edges, control_of(rank_id{99}), first) == fault::wrong_rank);
  CHECK(refusal(edges, control_of(decode_rank), first) == fault::wrong_rank); // this rank connects
  CHECK(edges.validate_hello(decode_rank, second, epoch_of(second), for_lane(control_of(decode_rank))));
}

TEST_CASE("B9: a good hello that comes to nothing leaves its edge free, one that becomes a lane takes it once") {
  auto edges = started(decode_rank);
  const auto control = control_of(prefill_leader);
  const auto hello = for_lane(control);
  CHECK(edges.validate_hello(prefill_leader, first, epoch_of(first), hello));
  CHECK(edges.validate_hello(prefill_leader, first, epoch_of(first),
                             hello)); // what came of the first is not known, or nothing

  edges.on_begun(control, first);

  CHECK(refusal(edges, control, first) == fault::wrong_sequence);
  CHECK(edges.validate_hello(prefill_worker, first, epoch_of(first), for_lane(control_of(prefill_worker))));
  CHECK(edges.validate_hello(prefill_leader, second, epoch_of(second), hello));
}

TEST_CASE("D2: an edge of a later generation, or news of one, shuts out what an earlier one says") {
  auto edges = started(prefill_worker);
  const lane_name group{prefill_leader, channel_kind::group, prefill_group};
  SUBCASE("an edge") {
    edges.on_begun(control_of(prefill_leader), second);
  }
  SUBCASE("news") {
    REQUIRE(edges.on_lost({.ranks = {prefill_leader}, .next = second, .cause = {}}));
  }
  REQUIRE(edges.on_lost({.ranks = {prefill_leader}, .next = first, .cause = {}})); // late
  CHECK(edges.known(prefill_leader) == second);
  CHECK(refusal(edges, group, first) == fault::stale_generation);
  CHECK(edges.validate_hello(prefill_leader, second, epoch_of(second), for_lane(group)));
  CHECK_FALSE(edges.is_news(prefill_leader, first)); // nor is the end of its lanes
  CHECK(edges.is_news(prefill_leader, second));
}

TEST_CASE("D2: a rank of an earlier generation than this one connects to nobody") {
  edge_machine edges{plan, prefill_leader, second, epoch_of(second), waits};
  REQUIRE(edges.on_roster(all_of(plan)));
  for (const auto& which : edges.planned()) {
    CHECK(edges.begins(which)); // this rank was started later: the others stay and listen
    CHECK(refusal(edges, which, first) == fault::stale_generation);
  }
  CHECK(refusal(edges, control_of(decode_rank), second) == fault::wrong_rank);
}

TEST_CASE("K14: a rank that stayed is not waited for as one that starts beside this one") {
  auto everybody = all_of(plan);
  everybody.ranks[prefill_leader.value].born = second;
  everybody.ranks[prefill_worker.value].born = second;
  edge_machine edges{plan, prefill_worker, second, epoch_of(second), waits};
  REQUIRE(edges.on_roster(everybody));
  const auto late = at(1h);
  CHECK(edges.deadline_with(prefill_leader, late, at(1s)) == late);
  CHECK(edges.deadline_with(decode_rank, late, at(1s)) == at(1s) + waits.reconnect);
  CHECK(edges.deadline_with(decode_rank, at(1001ms), at(1s)) == at(1001ms));
}

TEST_CASE("C36: a roster lists every rank at its place") {
  edge_machine edges{plan, prefill_leader, first, epoch_of(first), waits};
  auto everybody = all_of(plan);
  SUBCASE("short") {
    everybody.ranks.pop_back();
  }
  SUBCASE("out of order") {
    std::swap(everybody.ranks[1], everybody.ranks[2]);
  }
  CHECK(edges.on_roster(everybody).error().code == fault::bad_value);
}

TEST_CASE("D2: a loss drops the lanes that nobody has taken, but those of the generation that follows") {
  auto edges = started(encode_rank);
  const lost news{.ranks = {front_rank, decode_rank}, .next = second, .cause = "killed"};
  edges.on_begun(control_of(front_rank), first);
  SUBCASE("the old one's") {
    REQUIRE(edges.on_lost(news));
    CHECK(edges.is_dropped(control_of(front_rank), news));
  }
  SUBCASE("the new one was quicker than the news") {
    edges.on_begun(control_of(front_rank), second);
    REQUIRE(edges.on_lost(news));
    CHECK_FALSE(edges.is_dropped(control_of(front_rank), news));
  }
  CHECK(edges.is_dropped(control_of(decode_rank), news)); // made by this rank: nobody else has begun it
  CHECK_FALSE(edges.is_dropped(control_of(prefill_leader), news));
  CHECK(edges.on_lost({.ranks = {rank_id{99}}, .next = second, .cause = {}}).error().code == fault::bad_value);
}

TEST_CASE("K14: a rejoin takes every lane to the newcomers and no other, in bounded time") {
  auto edges = started(front_rank);
  edges.on_unmade(encode_rank, fault::timeout);
  const rejoin order{{end_of(prefill_leader, second), end_of(prefill_worker, second)}};
  const auto begun = edges.on_rejoin(order, at(5s));
  REQUIRE(begun);
  CHECK(begun->ranks == std::set{prefill_leader, prefill_worker});
  CHECK(begun->lanes == std::vector{control_of(prefill_leader), control_of(prefill_worker)});
  CHECK(begun->by == at(5s) + waits.admit);
  CHECK_FALSE(edges.unreached()); // of the admission before
  CHECK(edges.listed(prefill_leader) == second);
  CHECK_FALSE(edges.begins(control_of(prefill_leader)));

  const auto wrong = edges.on_rejoin({{end_of(decode_rank, third), end_of(rank_id{99}, third)}}, at(7s));
  CHECK(wrong.error().code == fault::bad_value);
  CHECK(edges.listed(decode_rank) == first);
}

TEST_CASE("K14: the other end of an edge that was not made is named where it did not do its part") {
  for (const auto cause : {fault::peer_gone, fault::timeout, fault::cancelled, fault::no_memory, fault::wrong_job}) {
    auto edges = started(front_rank);
    edges.on_unmade(decode_rank, cause);
    CHECK(edges.unreached().has_value() == (cause == fault::peer_gone || cause == fault::timeout));
  }
}

TEST_CASE("K2: bytes of writers that have died may still arrive through a network card alone") {
  CHECK(bytes_may_arrive(bulk_lane::fabric));
  CHECK_FALSE(bytes_may_arrive(bulk_lane::shared_memory));
}

TEST_CASE("D2: an edge begins in no epoch before the loss of its peer, nor before the rank's own") {
  auto edges = started(decode_rank);
  const lost news{.ranks = {encode_rank}, .next = second, .cause = "killed", .epoch = cache_epoch{2}};
  REQUIRE(edges.on_lost(news));
  const auto validate = [&](const edge_machine& by, rank_id peer, std::uint64_t epoch) {
    return by.validate_hello(peer, third, cache_epoch{epoch}, for_lane(control_of(peer)));
  };
  // The generation alone says nothing of the epoch.
  CHECK(validate(edges, prefill_leader, 1));
  REQUIRE(edges.on_lost({.ranks = {prefill_leader}, .next = second, .cause = "killed", .epoch = cache_epoch{3}}));
  CHECK(validate(edges, prefill_leader, 2).error().code == fault::stale_epoch);
  CHECK(validate(edges, prefill_leader, 3));
  edge_machine newer{plan, decode_rank, second, cache_epoch{4}, waits};
  CHECK(validate(newer, prefill_leader, 3).error().code == fault::stale_epoch);
  CHECK(validate(newer, prefill_leader, 4));
}

TEST_CASE("D8: what a rank told of its memory before it was lost is not taken for its successor's") {
  auto edges = started(encode_rank);
  CHECK(edges.validate_word(prefill_leader, cache_epoch{1}));
  REQUIRE(edges.on_lost({.ranks = {prefill_leader}, .next = second, .cause = "killed", .epoch = cache_epoch{2}}));
  CHECK(edges.validate_word(prefill_leader, cache_epoch{1}).error().code == fault::stale_epoch);
  CHECK(edges.validate_word(prefill_leader, cache_epoch{2}));
  CHECK(edges.validate_word(front_rank, cache_epoch{1}));
}
