#include <doctest/doctest.h>

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

/// Two ranks that stay, and a third that is lost while a message about it is on its way between them.

namespace {

constexpr generation second{2};

cell_id cell_of(const role_rig& rig, role_kind role, std::size_t place = 0) {
  return rig.plan.cells_of(role)[place];
}

reserve_rows rows_order(const role_rig& rig, std::uint64_t request, std::size_t encode_place) {
  return {.request = request_id{request},
          .room = room_id{request},
          .slot = {slot_index{0}, generation{1}},
          .tokens = 4,
          .encode_cell = cell_of(rig, serve_role::encode, encode_place),
          .deadline_ms = 60'000};
}

reserve_kv kv_order(const role_rig& rig, std::uint64_t request) {
  return {.request = request_id{request},
          .room = room_id{request},
          .prompt_tokens = 8,
          .max_tokens = 4,
          .sampling = {},
          .end_tokens = {},
          .prefill_cell = cell_of(rig, serve_role::prefill),
          .deadline_ms = 60'000,
          .prompt_digest = 0};
}

} // namespace

TEST_CASE("D8: an order to lend rows to an encode cell that was lost on its way lends nothing to its successor") {
  role_rig rig{{prefill_worker}};
  const auto before = rig.epoch;
  rig.lose({ranks::encode, ranks::encode_worker}, second);
  rig.regain({ranks::encode, ranks::encode_worker}, second);
  rig.say(prefill, prefill_worker, rows_order(rig, 1, 0), before); // its leader had not learnt of the loss
  rig.expect_silence();

  rig.say(prefill, prefill_worker, rows_order(rig, 2, 1), before); // of another cell: the loss does not touch it
  CHECK(rig.expect<grant_rows>().from(prefill_worker).to(ranks::other_encode).request == request_id{2});
  rig.say(prefill, prefill_worker, rows_order(rig, 3, 0)); // decided after it
  CHECK(rig.expect<grant_rows>().from(prefill_worker).to(ranks::encode).request == request_id{3});

  rig.say(prefill, prefill_worker, release{request_id{1}}); // what was dropped ends as if it had been taken (K2)
  CHECK(rig.expect<rows_quiet>().from(prefill_worker).to(prefill).request == request_id{1});
}

TEST_CASE("D8: the same order waits in the mailbox of its own rank, behind the news of the loss") {
  role_rig rig{{prefill}};
  submit work{.request = request_id{1},
              .prompt = std::vector<token_id>(8, token_id{7}),
              .pictures = {{.room = room_id{1},
                            .first_token = 0,
                            .tokens = 4,
                            .grid = {1, 4, 4},
                            .content_hash = 0,
                            .encode_cell = cell_of(rig, serve_role::encode)}},
              .sampling = {},
              .kv_room = room_id{2},
              .decode_cell = cell_of(rig, serve_role::decode),
              .deadline_ms = 60'000};
  const auto before = rig.epoch;
  rig.lose({ranks::encode, ranks::encode_worker}, second);
  rig.regain({ranks::encode, ranks::encode_worker}, second);
  rig.say(front, prefill, work, before);
  rig.expect_silence(); // no acknowledgement, no order to a member, no grant
  work.request = request_id{2};
  rig.say(front, prefill, work);
  rig.expect<ack>().from(prefill).to(front);
}

TEST_CASE("D8: a decode cell keeps no room for a prefill cell that was lost on the order's way") {
  role_rig rig{{decode}};
  const auto before = rig.epoch;
  rig.lose({prefill, prefill_worker}, second);
  rig.regain({prefill, prefill_worker}, second);
  rig.say(front, decode, kv_order(rig, 1), before);
  rig.expect_silence();
  rig.say(front, decode, cancel{request_id{1}, "its cell was lost"}); // the front learns of the loss too
  rig.expect_silence();
  rig.say(front, decode, kv_order(rig, 2));
  CHECK(rig.expect<ack>().from(decode).to(front).request == request_id{2});
}

TEST_CASE(
    "D2: what a role sends names the epoch in which it has decided to, however late its rank has learnt of more") {
  role_rig rig{{decode}};
  rig.say(front, decode, kv_order(rig, 1));
  CHECK(rig.epoch_of_next(decode, front) == first_epoch);
  rig.expect<ack>().from(decode).to(front);
  CHECK(rig.epoch_of_next(decode, decode_worker) == first_epoch);
  rig.drop_frames();
  rig.lose({ranks::encode, ranks::encode_worker}, second);
  rig.say(front, decode, kv_order(rig, 2), first_epoch); // in time: its prefill cell was not lost
  CHECK(rig.epoch_of_next(decode, front) == cache_epoch{2});
  CHECK(rig.epoch_of_next(decode, decode_worker) == cache_epoch{2});
}
