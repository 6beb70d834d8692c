#include "protocols/serve/decode_machine.hpp"
#include "protocols/serve/roles.hpp"

#include <doctest/doctest.h>

#include "serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

constexpr cell_id prefill_cell{3};
constexpr cell_id decode_cell{4};
constexpr room_id kv_room{8};

reserve_kv order(std::uint64_t request, std::uint32_t max_tokens = 12) {
  return {.request = request_id{request},
          .room = room_id{kv_room.value + request - 1},
          .prompt_tokens = 20,
          .max_tokens = max_tokens,
          .sampling = {},
          .end_tokens = {9},
          .prefill_cell = prefill_cell,
          .deadline_ms = 1000};
}

handover news_of(std::uint64_t request, std::uint32_t length = 20) {
  return {.request = request_id{request},
          .room = room_id{kv_room.value + request - 1},
          .first_token = 42,
          .position_delta = -8,
          .length = length,
          .digest = 5};
}

struct leader_fixture {
  cluster_plan plan = reader_plan();
  decode_leader_machine machine{
      plan, decode_cell, {.front = front_rank, .kv_blocks = 4, .room_deadline = 1s, .requests_max = 4}};

  decode_leader_machine::effects vote_done(std::uint64_t request) {
    (void)machine.on_reserve(order(request), at(0ms));
    (void)machine.on_handover(news_of(request), at(1ms));
    (void)machine.on_arrived({request_id{request}, kv_room}, 0, at(1ms));
    return machine.on_vote(request_id{request}, {admission::done}, at(2ms));
  }
};

struct member_fixture {
  cluster_plan plan = reader_plan();
  decode_member_machine machine{plan, decode_cell, decode_rank, {.rooms_max = 4, .overlap = {{prefill_cell, {0, 1}}}}};
  reserve_blocks reserve{.request = request_id{1},
                         .room = kv_room,
                         .prompt_tokens = 20,
                         .blocks = {block_index{0}, block_index{1}},
                         .lease_generation = generation{1},
                         .prefill_cell = prefill_cell,
                         .deadline_ms = 1000};
};

} // namespace

TEST_CASE_FIXTURE(leader_fixture,
                  "F14: a sequence joins when its first token is stored and its bytes are here, in either order") {
  REQUIRE(sent<reserve_blocks>(machine.on_reserve(order(1), at(0ms))).size() == 1);
  std::vector<decode_leader_machine::vote> votes;
  SUBCASE("token first") {
    CHECK(machine.on_handover(news_of(1), at(1ms)).empty());
    votes = only<decode_leader_machine::vote>(machine.on_arrived({request_id{1}, kv_room}, 0, at(2ms)));
  }
  SUBCASE("bytes first") {
    CHECK(machine.on_arrived({request_id{1}, kv_room}, 0, at(1ms)).empty());
    votes = only<decode_leader_machine::vote>(machine.on_handover(news_of(1), at(2ms)));
  }
  REQUIRE(votes.size() == 1);
  const auto joins =
      only<decode_leader_machine::join_batch>(machine.on_vote(request_id{1}, {admission::done}, at(3ms)));
  REQUIRE(joins.size() == 1);
  CHECK(joins[0].first_token == 42);
  CHECK(joins[0].sequence.context == 20);
  CHECK(joins[0].sequence.position_delta == -8); // F16
  CHECK(joins[0].sequence.blocks.size() == 2);
}

TEST_CASE_FIXTURE(leader_fixture, "F13: blocks are free again when the sequence has left, and the next one gets them") {
  CHECK(only<decode_leader_machine::join_batch>(vote_done(1)).size() == 1);
  CHECK(sent<reserve_blocks>(machine.on_reserve(order(2, 44), at(3ms))).empty()); // all four blocks
  CHECK(sent<release>(machine.on_left(request_id{1}, at(4ms))).size() == 1);
  const auto effects = machine.on_quiet({request_id{1}}, 0, at(5ms));
  CHECK(sent<reserve_blocks>(effects).at(0).second.request == request_id{2});
}

TEST_CASE_FIXTURE(leader_fixture, "a hand-over that comes before there are blocks is kept") {
  (void)vote_done(1);
  (void)machine.on_reserve(order(2, 44), at(3ms));
  CHECK(machine.on_handover(news_of(2), at(4ms)).empty());
  (void)machine.on_left(request_id{1}, at(5ms));
  (void)machine.on_quiet({request_id{1}}, 0, at(5ms));
  CHECK(only<decode_leader_machine::vote>(machine.on_arrived({request_id{2}, room_id{9}}, 0, at(6ms))).size() == 1);
}

TEST_CASE_FIXTURE(leader_fixture,
                  "D10, K3: hand-overs whose order never comes go after a room's time, and a real one is kept then") {
  for (const std::uint64_t nobodys : {1, 2, 3, 4}) // requests_max: their orders went to this cell's predecessor
    CHECK(machine.on_handover(news_of(nobodys), at(1ms)).empty());
  CHECK(machine.on_tick(at(1000ms)).empty());
  CHECK_FALSE(machine.at_rest());
  CHECK(machine.on_tick(at(1001ms)).empty());
  CHECK(machine.at_rest());

  CHECK(machine.on_handover(news_of(5), at(1002ms)).empty());
  CHECK(sent<reserve_blocks>(machine.on_reserve(order(5), at(1003ms))).size() == 1);
  CHECK(only<decode_leader_machine::vote>(machine.on_arrived({request_id{5}, room_id{12}}, 0, at(1004ms))).size() == 1);
}

TEST_CASE_FIXTURE(leader_fixture,
                  "D10, K3: a hand-over stays as long as its order waits for blocks, and goes with the order") {
  (void)vote_done(1);
  auto patient = order(2, 44); // all four blocks
  patient.deadline_ms = 5000;
  CHECK(sent<reserve_blocks>(machine.on_reserve(patient, at(3ms))).empty());
  CHECK(machine.on_handover(news_of(2), at(4ms)).empty());
  CHECK(machine.on_tick(at(3000ms)).empty());
  SUBCASE("blocks come") {
    (void)machine.on_left(request_id{1}, at(3001ms));
    CHECK(sent<reserve_blocks>(machine.on_quiet({request_id{1}}, 0, at(3002ms))).size() == 1);
    CHECK(only<decode_leader_machine::vote>(machine.on_arrived({request_id{2}, room_id{9}}, 0, at(3003ms))).size() ==
          1);
  }
  SUBCASE("it is cancelled") { // which is the front's to say
    (void)machine.on_cancel(request_id{2}, at(3001ms));
    (void)machine.on_left(request_id{1}, at(3002ms));
    (void)machine.on_quiet({request_id{1}}, 0, at(3003ms));
    CHECK(machine.at_rest());
  }
}

TEST_CASE_FIXTURE(leader_fixture, "F6: a hand-over of another prompt ends its request by name, and joins nothing") {
  auto asked = order(1);
  auto computed = news_of(1);
  asked.prompt_digest = computed.digest;
  enum class lie { length, digest };
  for (const auto which : {lie::length, lie::digest})
    for (const bool early : {false, true}) {
      decode_leader_machine one{
          plan, decode_cell, {.front = front_rank, .kv_blocks = 4, .room_deadline = 1s, .requests_max = 4}};
      auto wrong = computed;
      wrong.length -= which == lie::length;
      wrong.digest += which == lie::digest;
      decode_leader_machine::effects effects;
      if (early) {
        (void)one.on_handover(wrong, at(0ms));
        effects = one.on_reserve(asked, at(1ms));
      } else {
        (void)one.on_reserve(asked, at(0ms));
        effects = one.on_handover(wrong, at(1ms));
      }
      REQUIRE(sent<error>(effects).size() == 1);
      CHECK(sent<error>(effects)[0].first == front_rank);
      CHECK(fault_from(sent<error>(effects)[0].second.code) == fault::prompt_mismatch);
      CHECK(sent<release>(effects).size() == 1);
      CHECK(one.on_arrived({request_id{1}, kv_room}, 0, at(2ms)).empty()); // nobody votes on it
      CHECK(one.requests() == 0);
    }
}

TEST_CASE_FIXTURE(leader_fixture, "F6: the prompt that was asked for is admitted, and so is one that nobody stated") {
  auto asked = order(1);
  asked.prompt_digest = news_of(1).digest;
  (void)machine.on_reserve(asked, at(0ms));
  (void)machine.on_handover(news_of(1), at(1ms));
  CHECK(only<decode_leader_machine::vote>(machine.on_arrived({request_id{1}, kv_room}, 0, at(1ms))).size() == 1);
  CHECK(only<decode_leader_machine::join_batch>(vote_done(2)).size() == 1);
}

TEST_CASE_FIXTURE(leader_fixture, "C41: keys and values that never come fail the request by its deadline") {
  (void)machine.on_reserve(order(1), at(0ms));
  CHECK(machine.on_tick(at(999ms)).empty());
  const auto effects = machine.on_tick(at(1000ms));
  CHECK(fault_from(sent<error>(effects).at(0).second.code) == fault::timeout);
  CHECK(machine.requests() == 0);
}

TEST_CASE_FIXTURE(leader_fixture, "a cancelled sequence leaves the batch before its blocks are free") {
  (void)vote_done(1);
  const auto asked = machine.on_cancel(request_id{1}, at(3ms));
  CHECK(only<decode_leader_machine::leave_batch>(asked).size() == 1);
  CHECK(sent<release>(asked).empty());
  CHECK(sent<release>(machine.on_left(request_id{1}, at(4ms))).size() == 1);
}

TEST_CASE_FIXTURE(leader_fixture,
                  "K2: blocks are lent again when every rank of the cell is quiet, however long it takes") {
  (void)machine.on_reserve(order(1, 44), at(0ms)); // all four blocks
  (void)machine.on_cancel(request_id{1}, at(1ms));
  CHECK(sent<reserve_blocks>(machine.on_reserve(order(2), at(2ms))).empty());
  CHECK(sent<reserve_blocks>(machine.on_tick(at(100s))).empty());
  CHECK(sent<reserve_blocks>(machine.on_quiet({request_id{1}}, 0, at(101s))).size() == 1);
}

TEST_CASE("K2: blocks of a mesh are lent again when the last of its ranks is quiet, whichever that is") {
  cluster_spec spec;
  spec.pools = {{"front", serve_role::front, 1, 1, 1},
                {"prefill", serve_role::prefill, 1, 1, 1},
                {"decode", serve_role::decode, 1, 2, 1}};
  const auto plan = make_plan(spec).value();
  for (const std::uint32_t first : {0u, 1u}) {
    decode_leader_machine machine{plan,
                                  plan.cells_of(serve_role::decode)[0],
                                  {.front = front_rank, .kv_blocks = 4, .room_deadline = 1s, .requests_max = 4}};
    (void)machine.on_reserve(order(1, 44), at(0ms)); // all four blocks
    (void)machine.on_cancel(request_id{1}, at(1ms));
    (void)machine.on_reserve(order(2), at(2ms));
    CHECK(sent<reserve_blocks>(machine.on_quiet({request_id{1}}, first, at(3ms))).empty());
    CHECK(sent<reserve_blocks>(machine.on_quiet({request_id{1}}, first, at(4ms))).empty()); // D10: twice is once
    CHECK(sent<reserve_blocks>(machine.on_quiet({request_id{1}}, 1 - first, at(5ms))).size() == 2);
  }
}

TEST_CASE_FIXTURE(member_fixture, "K2: a member is quiet when each writer has written, returned its grant or is gone") {
  enum class word { arrived, returned, gone };
  for (const auto first : {word::arrived, word::returned, word::gone})
    for (const auto second : {word::arrived, word::returned, word::gone})
      for (const bool before : {true, false}) { // before or after the request's end
        decode_member_machine one{
            plan, decode_cell, decode_rank, {.rooms_max = 4, .overlap = {{prefill_cell, {0, 1}}}}};
        (void)one.on_reserve_blocks(reserve, at(0ms));
        const auto hear = [&](rank_id from, word what) {
          switch (what) {
          case word::arrived:
            return one.on_kv_arrived(kv_room, from, at(1ms));
          case word::returned:
            return one.on_returned(from, {request_id{1}, kv_room, true});
          case word::gone:
            break;
          }
          return one.on_writers_gone(std::vector{from}, false);
        };
        if (before) {
          CHECK(sent<blocks_quiet>(hear(prefill_leader, first)).empty());
          const auto ended = one.on_release(request_id{1}, at(2ms));
          REQUIRE(sent<revoke_blocks>(ended).size() == 1); // the other alone is asked
          CHECK(sent<revoke_blocks>(ended)[0].first == prefill_worker);
        } else {
          CHECK(sent<revoke_blocks>(one.on_release(request_id{1}, at(2ms))).size() == 2);
          CHECK(sent<blocks_quiet>(hear(prefill_leader, first)).empty());
        }
        CHECK(sent<blocks_quiet>(one.on_tick(at(100s))).empty()); // silence is not gone
        const auto quiet = sent<blocks_quiet>(hear(prefill_worker, second));
        REQUIRE(quiet.size() == 1);
        CHECK(quiet[0].first == decode_rank);
      }
}

TEST_CASE_FIXTURE(member_fixture,
                  "K2: a rank that was lost says nothing that counts: its successor knows of no grant") {
  (void)machine.on_reserve_blocks(reserve, at(0ms));
  machine.on_lost({.ranks = {prefill_leader, prefill_worker}, .next = generation{2}, .cause = {}});
  CHECK(sent<revoke_blocks>(machine.on_release(request_id{1}, at(1ms))).empty());
  (void)machine.on_returned(prefill_leader, {request_id{1}, kv_room, true});
  CHECK(sent<blocks_quiet>(machine.on_returned(prefill_worker, {request_id{1}, kv_room, true})).empty());
  CHECK(sent<blocks_quiet>(machine.on_writers_gone(std::vector{prefill_leader, prefill_worker}, false)).size() == 1);
}

TEST_CASE_FIXTURE(member_fixture,
                  "K2, I24: what may still arrive rests for the quarantine, in time that the rank itself ran") {
  (void)machine.on_reserve_blocks(reserve, at(0ms));
  (void)machine.on_release(request_id{1}, at(0ms));
  (void)machine.on_tick(at(0ms));
  SUBCASE("an aborted write") {
    (void)machine.on_returned(prefill_leader, {request_id{1}, kv_room, false});
    (void)machine.on_returned(prefill_leader, {request_id{1}, kv_room, true}); // the first word counts
    (void)machine.on_returned(prefill_worker, {request_id{1}, kv_room, true});
  }
  SUBCASE("of a process that is gone, over a network") {
    CHECK(machine.on_writers_gone(std::vector{prefill_leader, prefill_worker}, true).empty());
  }
  CHECK(sent<blocks_quiet>(machine.on_tick(at(1h))).empty()); // a pause is one step
  std::chrono::milliseconds now = 1h;
  for (auto ran = limits::own_time_step_max; ran + 100ms < limits::slot_quarantine; ran += 100ms)
    REQUIRE(sent<blocks_quiet>(machine.on_tick(at(now += 100ms))).empty());
  CHECK(sent<blocks_quiet>(machine.on_tick(at(now += 100ms))).size() == 1);
}

TEST_CASE_FIXTURE(member_fixture,
                  "K2: memory that rests after an aborted write is not freed by bytes that arrive late") {
  (void)machine.on_reserve_blocks(reserve, at(0ms));
  (void)machine.on_release(request_id{1}, at(0ms));
  (void)machine.on_returned(prefill_worker, {request_id{1}, kv_room, true});
  (void)machine.on_returned(prefill_leader, {request_id{1}, kv_room, false});
  CHECK(sent<blocks_quiet>(machine.on_kv_arrived(kv_room, prefill_leader, at(1ms))).empty());
}

TEST_CASE_FIXTURE(
    member_fixture,
    "D10, I15: a member grants to every prefill rank that shares heads, and reports when all have written") {
  const auto grants = sent<grant_blocks>(machine.on_reserve_blocks(reserve, at(0ms)));
  REQUIRE(grants.size() == 2);
  CHECK(grants[0].first == prefill_leader);
  CHECK(grants[1].first == prefill_worker);

  CHECK(machine.on_kv_arrived(kv_room, prefill_worker, at(1ms)).empty());
  CHECK(machine.on_kv_arrived(kv_room, prefill_worker, at(1ms)).empty()); // D10: twice is once
  const auto news = machine.on_kv_arrived(kv_room, prefill_leader, at(2ms));
  CHECK(sent<arrived>(news).size() == 1);
  CHECK(only<decode_member_machine::set_admission>(news).at(0).status == admission::done);
}

TEST_CASE_FIXTURE(member_fixture, "D11: bytes of a released request meet a tombstone") {
  (void)machine.on_reserve_blocks(reserve, at(0ms));
  CHECK(only<decode_member_machine::forget_admission>(machine.on_release(request_id{1}, at(1ms))).size() == 1);
  CHECK(machine.on_kv_arrived(kv_room, prefill_leader, at(2ms)).empty());
  CHECK(machine.on_reserve_blocks(reserve, at(3ms)).empty());
}

TEST_CASE_FIXTURE(leader_fixture,
                  "K8: a sequence that carries its own fault is told to the front once, and then leaves") {
  (void)vote_done(1);
  const auto told = machine.on_given_up(request_id{1}, {fault::not_finite, "token 3"});
  REQUIRE(sent<error>(told).size() == 1);
  CHECK(sent<error>(told)[0].first == front_rank);
  CHECK(fault_from(sent<error>(told)[0].second.code) == fault::not_finite);
  CHECK(sent<release>(told).empty());
  CHECK(sent<release>(machine.on_left(request_id{1}, at(4ms))).size() == 1);
  CHECK(machine.on_given_up(request_id{1}, {fault::not_finite, "token 3"}).empty());
}
