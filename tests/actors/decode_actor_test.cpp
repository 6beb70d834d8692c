#include <doctest/doctest.h>

#include "protocols/serve/message_types.hpp"
#include "protocols/serve/roles.hpp"
#include "tests/actors/role_rig.hpp"

using namespace troupe;
using namespace troupe::actors;
using namespace troupe::protocols;
using namespace troupe::tests;
using ranks::decode;
using ranks::decode_worker;
using ranks::front;
using ranks::prefill;
using ranks::prefill_worker;

namespace {

constexpr std::array members{decode, decode_worker};
constexpr std::array writers{prefill, prefill_worker};
constexpr std::uint32_t prompt_tokens = 100;

/// Both ranks of a decode cell. A request takes every block of it, so that the next one waits for what this one had.
struct decode_cell : role_rig {
  decode_cell() : role_rig({decode, decode_worker}) {}

  static room_id room_of(std::uint64_t request) { return room_id{100 + request}; }

  void reserves(std::uint64_t request, std::uint32_t deadline_ms = 60'000) {
    say(front, decode,
        reserve_kv{.request = request_id{request},
                   .room = room_of(request),
                   .prompt_tokens = prompt_tokens,
                   .max_tokens = 28,
                   .sampling = {},
                   .end_tokens = {63},
                   .prefill_cell = plan.cells_of(serve_role::prefill)[0],
                   .deadline_ms = deadline_ms,
                   .prompt_digest = 77});
    expect<ack>().from(decode).to(front);
  }
  void is_granted(std::uint64_t request) {
    CHECK(expect<reserve_blocks>().from(decode).to(decode_worker).request == request_id{request});
    for (const auto owner : members)
      for (const auto writer : writers)
        CHECK(expect<grant_blocks>().from(owner).to(writer).blocks.size() == 8);
  }
  bool has_blocks() { return count(serve_type::reserve_blocks, decode, decode_worker) > 0; }
  void hands_over(std::uint64_t request, std::uint64_t digest = 77) {
    say(prefill, decode,
        handover{.request = request_id{request},
                 .room = room_of(request),
                 .first_token = 11,
                 .position_delta = 0,
                 .length = prompt_tokens,
                 .digest = digest});
  }
  void writes_all(std::uint64_t request) {
    for (const auto owner : members)
      for (const auto writer : writers)
        finish_downloads(writer, owner, serve_transfer::kv, room_of(request));
    expect<arrived>().from(decode_worker).to(decode);
  }
  void votes(std::uint64_t request, admission says = admission::done) {
    CHECK(expect_order<room_vote>(decode).request == request_id{request});
    tell(decode, step_machine::voted{request_id{request}, {says}});
  }
  void is_joined(std::uint64_t request) {
    CHECK(expect_order<decode_leader_machine::join_batch>(decode).sequence.request == request_id{request});
  }
  void cancels(std::uint64_t request) { say(front, decode, cancel{request_id{request}, "the client left"}); }
  /// Every writer says when it is asked that it writes no more.
  void ends_when_given_back(std::uint64_t request) {
    const auto give_back = [&](rank_id owner) {
      for (const auto writer : writers) {
        expect<revoke_blocks>().from(owner).to(writer);
        say(writer, owner, blocks_returned{request_id{request}, room_of(request), true});
      }
    };
    give_back(decode);
    expect<release>().from(decode).to(decode_worker);
    give_back(decode_worker);
    expect<blocks_quiet>().from(decode_worker).to(decode);
  }
  void ends_within_the_cell() {
    expect<release>().from(decode).to(decode_worker);
    expect<blocks_quiet>().from(decode_worker).to(decode);
  }
};

} // namespace

TEST_CASE_FIXTURE(decode_cell,
                  "F14: a sequence joins once its bytes are on every rank and its first token is here, in any order") {
  reserves(1);
  is_granted(1);
  reserves(2);
  SUBCASE("bytes first") {
    writes_all(1);
    CHECK_FALSE(has_order(decode));
    hands_over(1);
  }
  SUBCASE("token first") {
    hands_over(1);
    CHECK_FALSE(has_order(decode));
    writes_all(1);
  }
  votes(1);
  is_joined(1);
  CHECK_FALSE(has_blocks());
  tell(decode, step_machine::left_batch{request_id{1}});
  ends_within_the_cell(); // everybody has written: nobody is asked
  is_granted(2);
  expect_silence();
}

TEST_CASE_FIXTURE(decode_cell, "F14: a rank that is missing one writer's bytes is not asked whether it may join") {
  reserves(1);
  is_granted(1);
  hands_over(1);
  for (const auto owner : members)
    finish_downloads(prefill, owner, serve_transfer::kv, room_of(1));
  finish_downloads(prefill_worker, decode, serve_transfer::kv, room_of(1));
  finish_downloads(prefill_worker, decode, serve_transfer::kv, room_of(1)); // again
  CHECK_FALSE(has_order(decode));
  CHECK(board_says(decode, room_of(1)) == admission::done);
  CHECK(board_says(decode_worker, room_of(1)) == admission::pending);
  finish_downloads(prefill_worker, decode_worker, serve_transfer::kv, room_of(1));
  expect<arrived>().from(decode_worker).to(decode);
  votes(1);
  is_joined(1);
}

TEST_CASE_FIXTURE(decode_cell, "C15: a request that is cancelled in any phase leaves the whole cell to the next one") {
  enum class phase { waiting, receiving, voting, joined };
  std::uint64_t request = 0;
  for (const auto at : {phase::waiting, phase::receiving, phase::voting, phase::joined}) {
    CAPTURE(static_cast<int>(at));
    const auto id = ++request;
    drop_frames();
    if (at == phase::waiting) { // behind another, which is served on
      reserves(id);
      const auto first = id;
      is_granted(first);
      reserves(++request);
      cancels(request);
      hands_over(first);
      writes_all(first);
      votes(first);
      is_joined(first);
      tell(decode, step_machine::left_batch{request_id{first}});
      ends_within_the_cell();
      CHECK_FALSE(has_blocks());
      continue;
    }
    reserves(id);
    is_granted(id);
    if (at != phase::receiving) {
      hands_over(id);
      writes_all(id);
    }
    if (at == phase::joined) {
      votes(id);
      is_joined(id);
    }
    cancels(id);
    cancels(id);
    if (at == phase::receiving)
      ends_when_given_back(id);
    if (at == phase::voting)
      votes(id);
    if (at == phase::joined) {
      for (auto twice = 0; twice < 2; ++twice)
        CHECK(expect_order<decode_leader_machine::leave_batch>(decode).request == request_id{id});
      tell(decode, step_machine::left_batch{request_id{id}});
    }
    if (at != phase::receiving)
      ends_within_the_cell();
    CHECK_FALSE(has_order(decode));
    for (const auto rank : members)
      CHECK(board_says(rank, room_of(id)) == admission::failed); // forgotten
  }
  drop_frames();
  reserves(++request);
  is_granted(request);
}

TEST_CASE_FIXTURE(decode_cell,
                  "K2: blocks are lent again when every writer has said no more, or was reaped, and by no time") {
  reserves(1);
  is_granted(1);
  reserves(2);
  cancels(1);
  expect<release>().from(decode).to(decode_worker);
  for (const auto owner : members) {
    expect<revoke_blocks>().from(owner).to(prefill);
    expect<revoke_blocks>().from(owner).to(prefill_worker);
    say(prefill, owner, blocks_returned{request_id{1}, room_of(1), true});
  }
  pass(30s);
  CHECK(count(serve_type::blocks_quiet, decode_worker, decode) == 0);
  CHECK_FALSE(has_blocks());

  SUBCASE("its word") {
    for (const auto owner : members)
      say(prefill_worker, owner, blocks_returned{request_id{1}, room_of(1), true});
  }
  SUBCASE("its bytes") { // it had begun before it was asked
    for (const auto owner : members)
      finish_downloads(prefill_worker, owner, serve_transfer::kv, room_of(1));
  }
  SUBCASE("its end") {
    lose({writers.begin(), writers.end()}, generation{2});
    for (const auto owner : members) // too late to count: who says so is about to die
      say(prefill_worker, owner, blocks_returned{request_id{1}, room_of(1), true});
    CHECK(count(serve_type::blocks_quiet, decode_worker, decode) == 0);
    reap({writers.begin(), writers.end()});
  }
  CHECK_FALSE(has_blocks()); // the worker has not said so to its leader
  expect<blocks_quiet>().from(decode_worker).to(decode);
  is_granted(2);
}

TEST_CASE_FIXTURE(decode_cell, "I24: bytes that a network card may still deliver keep the blocks for their rest") {
  reserves(1);
  is_granted(1);
  reserves(2);
  cancels(1);
  expect<release>().from(decode).to(decode_worker);
  for (const auto owner : members)
    for (const auto writer : writers) {
      expect<revoke_blocks>().from(owner).to(writer);
      say(writer, owner, blocks_returned{request_id{1}, room_of(1), false});
    }
  pass(limits::slot_quarantine - 1s);
  CHECK(count(serve_type::blocks_quiet, decode_worker, decode) == 0);
  pass(2s);
  expect<blocks_quiet>().from(decode_worker).to(decode);
  is_granted(2);
}

TEST_CASE_FIXTURE(decode_cell,
                  "F6: a hand-over of another prompt than was asked for ends its request, and joins nothing") {
  reserves(1);
  is_granted(1);
  writes_all(1);
  hands_over(1, 78);
  CHECK(expect<error>().from(decode).to(front).code == static_cast<std::uint16_t>(fault::prompt_mismatch));
  ends_within_the_cell();
  CHECK_FALSE(has_order(decode));
}

TEST_CASE_FIXTURE(decode_cell, "C25: what has not come within room_ms after the first token ends its request by name") {
  reserves(1);
  is_granted(1);
  hands_over(1);
  for (const auto writer : writers)
    finish_downloads(writer, decode, serve_transfer::kv, room_of(1));
  pass(900ms);
  CHECK(count(message_type::error, decode, front) == 0);
  pass(200ms);
  const auto told = expect<error>().from(decode).to(front);
  CHECK(told.code == static_cast<std::uint16_t>(fault::timeout));
  CHECK(told.message.find("1 ranks") != std::string::npos);
}

TEST_CASE_FIXTURE(
    decode_cell, "E17: where bytes belong is known before any writer hears of its grant, and forgotten with the room") {
  reserves(1);
  is_granted(1);
  for (const auto owner : members)
    CHECK(expected_arrival(prefill, owner, room_of(1)).has_value());
  cancels(1);
  ends_when_given_back(1);
  for (const auto owner : members)
    CHECK_FALSE(expected_arrival(prefill_worker, owner, room_of(1)).has_value());
}

TEST_CASE_FIXTURE(decode_cell,
                  "K8: a sequence with a fault of its own ends alone, and its blocks when it has left the batch") {
  reserves(1);
  is_granted(1);
  hands_over(1);
  writes_all(1);
  votes(1);
  is_joined(1);
  reserves(2);
  tell(decode, step_machine::given_up{request_id{1}, {fault::invalid_request, "logits are not finite"}, false});
  CHECK(expect<error>().from(decode).to(front).request == request_id{1});
  CHECK_FALSE(has_blocks());
  tell(decode, step_machine::left_batch{request_id{1}});
  ends_within_the_cell();
  is_granted(2);
}
