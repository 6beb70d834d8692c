#include <doctest/doctest.h>

#include "actors/serve/front_actor.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/serve/prompt_digest.hpp"
#include "protocols/serve/roles.hpp"
#include "tests/actors/role_rig.hpp"

using namespace troupe;
using namespace troupe::actors;
using namespace troupe::protocols;
using namespace troupe::tests;

TEST_CASE("A5: a question passes every role actor, from a client's first frame to its last token") {
  using namespace ranks;
  role_rig rig{{front, ranks::encode, encode_worker, prefill, prefill_worker, decode, decode_worker}};
  rig.tell(ranks::encode, start_atom::value);
  const auto credits = rig.expect<grant_pixels>().from(ranks::encode).to(front);
  CHECK(credits.slots.size() == 4);

  // The question, and what the front makes of it.
  rig.client_sends(
      ask{.tag = 5, .prompt = "?", .picture_names = {"a"}, .picture_bytes = {3}, .max_tokens = 4, .sampling = {}});
  CHECK_FALSE(rig.has_ingest());
  rig.client_sends(picture_chunk{5, 0, std::vector<std::byte>(3)});
  rig.ingested(rig.expect_ingest(), 20);
  CHECK(rig.expect<accepted>().from(front).to_client().prompt_tokens == 20);
  const auto pixels = rig.expect_write(front, ranks::encode);
  const auto pixels_of_worker = rig.expect_write(front, encode_worker);
  const auto reserved = rig.expect<reserve_kv>().from(front).to(decode);
  const auto request = reserved.request;
  rig.expect<ack>().from(decode).to(front);
  rig.expect<submit>().from(front).to(prefill);
  rig.expect<ack>().from(prefill).to(front);
  const auto ordered = rig.expect<protocols::encode>().from(front).to(ranks::encode);
  rig.expect<ack>().from(ranks::encode).to(front);

  // Rows: the tower begins when the pixels are on both ranks of the mesh, and its rows go to both ranks of prefill.
  rig.expect<reserve_rows>().from(prefill).to(prefill_worker);
  rig.expect<grant_rows>().from(prefill).to(ranks::encode);
  rig.expect<grant_rows>().from(prefill_worker).to(ranks::encode);
  rig.arrive(pixels);
  rig.complete(pixels);
  CHECK_FALSE(rig.has_order(ranks::encode));
  rig.arrive(pixels_of_worker);
  rig.complete(pixels_of_worker);
  rig.expect<arrived>().from(encode_worker).to(ranks::encode);
  const auto tower = rig.expect_order<encode_machine::run_tower>(ranks::encode);
  CHECK(tower.item.room == ordered.room);
  rig.tell(ranks::encode, encoded{ordered.room, nullptr});
  CHECK(rig.expect<grant_pixels>().from(ranks::encode).to(front).slots.size() == 1); // the slot is free again
  for (const auto to : {prefill, prefill_worker}) {
    const auto rows = rig.expect_write(ranks::encode, to);
    rig.arrive(rows);
    rig.complete(rows);
  }
  rig.tell(ranks::encode, step_machine::tower_ended{ordered.room, rig.now(), rig.now()});
  CHECK(rig.expect<timing>().from(ranks::encode).to(front).part == phase::encode);
  CHECK(rig.expect<timing>().from(ranks::encode).to(front).part == phase::rows);
  rig.expect<arrived>().from(prefill_worker).to(prefill);

  // The prompt, and its keys and values: each rank of prefill writes to both stages of decode.
  const auto vote = rig.expect_order<room_vote>(prefill);
  CHECK(vote.rooms == std::vector{ordered.room});
  for (const auto rank : {prefill, prefill_worker})
    CHECK(rig.board_says(rank, ordered.room) == admission::done);
  rig.tell(prefill, step_machine::voted{request, {admission::done}});
  const auto run = rig.expect_order<prefill_leader_machine::run_prefill>(prefill);
  rig.expect<reserve_blocks>().from(decode).to(decode_worker);
  for (const auto writer : {prefill, prefill_worker}) {
    rig.expect<grant_blocks>().from(decode).to(writer);
    rig.expect<grant_blocks>().from(decode_worker).to(writer);
    rig.tell(writer, prefilled{request, reserved.room, rig.plan.cells_of(serve_role::decode)[0], run.blocks, nullptr});
    for (const auto to : {decode, decode_worker}) {
      const auto kv = rig.expect_write(writer, to);
      rig.arrive(kv);
      rig.complete(kv);
    }
  }
  rig.expect<kv_sent>().from(prefill_worker).to(prefill);
  rig.tell(prefill, step_machine::first_token{request, 11, 0, prompt_digest(run.work.prompt), rig.now(), rig.now()});
  CHECK(rig.expect<timing>().from(prefill).to(front).part == phase::prefill);
  rig.expect<handover>().from(prefill).to(decode);
  rig.expect<release>().from(prefill).to(prefill_worker);
  for (const auto rank : {prefill, prefill_worker})
    CHECK(rig.count(serve_type::revoke_rows, rank, ranks::encode) == 0); // it has written
  rig.expect<rows_quiet>().from(prefill_worker).to(prefill);
  CHECK(rig.expect<timing>().from(prefill).to(front).part == phase::kv);

  // The answer.
  rig.expect<arrived>().from(decode_worker).to(decode);
  CHECK(rig.expect_order<room_vote>(decode).rooms == std::vector{reserved.room});
  rig.tell(decode, step_machine::voted{request, {admission::done}});
  CHECK(rig.expect_order<decode_leader_machine::join_batch>(decode).first_token == 11);
  rig.say(decode, front, tokens{{{request, 0, 11, finish_reason::none}, {request, 1, 63, finish_reason::stop}}});
  CHECK(rig.expect<answer>().from(front).to_client().id == 11);
  CHECK(rig.expect<answer>().from(front).to_client().id == 63);
  const auto end = rig.expect<finished>().from(front).to_client();
  CHECK(end.reason == finish_reason::stop);
  CHECK(end.phases.size() == 6);
  rig.tell(decode, step_machine::left_batch{request});
  rig.expect<release>().from(decode).to(decode_worker);
  rig.expect<blocks_quiet>().from(decode_worker).to(decode);

  rig.pass(5s);
  rig.expect_silence();
}
