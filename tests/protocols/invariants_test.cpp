#include <doctest/doctest.h>

#include <string>

#include "protocols/cluster/edge_machine.hpp"
#include "protocols/cluster/life_machine.hpp"
#include "protocols/cluster/liveness_judge.hpp"
#include "protocols/cluster/rank_life_machine.hpp"
#include "protocols/mesh/collective_plan_machine.hpp"
#include "protocols/serve/decode_machine.hpp"
#include "protocols/serve/encode_machine.hpp"
#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/ingest_machine.hpp"
#include "protocols/serve/prefill_machine.hpp"
#include "protocols/serve/session_machine.hpp"
#include "protocols/serve/step_machine.hpp"
#include "protocols/transfers/way_machine.hpp"
#include "protocols/transfers/write_course.hpp"
#include "protocols/wire/link_machine.hpp"
#include "tests/protocols/broken_invariant.hpp"
#include "tests/protocols/serve_fixture.hpp"

/// Each machine is broken from inside, where no event could bring it, and its next event ends the process.
/// The walks of the other tests show the reverse: no course of events ends one.

using namespace std::chrono_literals;

namespace troupe::protocols::testing {

#define OPENS(tag, of, member)                                                                                         \
  struct tag {                                                                                                         \
    using machine = of;                                                                                                \
    friend auto& inside(tag, machine& which);                                                                          \
  };                                                                                                                   \
  template struct opens<tag, &of::member>

OPENS(fence_now, epoch_fence, now_);
OPENS(life_epoch, life_machine, epoch_);
OPENS(life_order, life_machine, order_);
OPENS(rank_heading, rank_life_machine, heading_);
OPENS(restarts_of, restart_machine, restarts_);
OPENS(parity_missing, parity_machine, missing_);
OPENS(supervision_heard, first_cause_machine, suspicions_);
OPENS(edge_begun, edge_machine, begun_);
OPENS(judge_silence, liveness_judge, silent_for_);
OPENS(plan_seen, collective_plan_machine, seen_);
OPENS(slots_lent, slot_pool_machine, lent_);
OPENS(blocks_lent, block_pool_machine, lent_);
OPENS(rooms_lent, lent_rooms, rooms_);
OPENS(member_bounds, prefill_member_machine, bounds_);
OPENS(decode_member_lent, decode_member_machine, lent_);
OPENS(leader_early, decode_leader_machine, early_);
OPENS(leader_ledger, prefill_leader_machine, ledger_);
OPENS(encode_rows, encode_machine, row_slots_);
OPENS(session_ingests, session_machine, ingests_);
OPENS(ingest_bounds, ingest_machine, bounds_);
OPENS(front_staging, front_machine, staging_);
OPENS(front_decode, front_machine, decode_cells_);
OPENS(step_begun, step_machine, begun_);
OPENS(link_state, link_machine, at_);
OPENS(link_begun, link_machine, begun_);
OPENS(way_state, way_machine, at_);

using grants_of_kv = held_grants<grant_blocks>;

} // namespace troupe::protocols::testing

using namespace troupe::protocols;
using namespace troupe::protocols::testing;

namespace {

const cluster_plan plan = reader_plan();
const cell_id encode_cell = plan.cells_of(serve_role::encode).front();
const cell_id prefill_cell = plan.cells_of(serve_role::prefill).front();
const cell_id decode_cell = plan.cells_of(serve_role::decode).front();

/// `event` breaks nothing of the machine as it is, and that label once `spoil` has been at it.
template <class Machine, class Spoil, class Event>
void ends_by(const std::string& label, Machine& machine, const Spoil& spoil, const Event& event) {
  CAPTURE(label);
  CHECK(broken_by([&] { event(machine); }) == "");
  const auto broken = broken_by([&] {
    spoil(machine);
    event(machine);
  });
  CHECK_MESSAGE(broken.rfind(label + " ", 0) == 0, broken);
}

submit work() {
  return {.request = request_id{1},
          .prompt = std::vector<token_id>(20, 1),
          .pictures = {},
          .sampling = {},
          .kv_room = room_id{8},
          .decode_cell = decode_cell,
          .deadline_ms = 1000};
}

reserve_kv reservation() {
  return {.request = request_id{1},
          .room = room_id{8},
          .prompt_tokens = 20,
          .max_tokens = 12,
          .sampling = {},
          .end_tokens = {9},
          .prefill_cell = prefill_cell,
          .deadline_ms = 1000,
          .prompt_digest = 0};
}

} // namespace

TEST_CASE("C1: an event that begins or ends in a state that cannot be ends the process, with label and condition") {
  epoch_fence fence{cache_epoch{3}};
  const lost news{.ranks = {encode_rank}, .next = generation{2}, .cause = "killed", .epoch = cache_epoch{4}};
  ends_by(
      "D2", fence, [](epoch_fence& of) { inside(fence_now{}, of) = cache_epoch{1}; },
      [&](epoch_fence& of) { of.on_lost(news); });
  CHECK(broken_by([&] {
          inside(fence_now{}, fence) = cache_epoch{1};
          fence.on_lost(news);
        }) == "D2 begun_ <= now_");
}

TEST_CASE("D2, C2: the lives of a cluster and of a rank") {
  const std::vector<std::string> hosts(plan.ranks.size(), "here");
  life_machine cluster{plan, hosts, {}, {}, at(0ms)};
  const auto tick = [](life_machine& of) { CHECK(of.on_tick(at(1ms)).empty()); };
  ends_by(
      "D2", cluster, [](life_machine& of) { inside(life_epoch{}, of) = cache_epoch{0}; }, tick);
  ends_by(
      "C3", cluster, [](life_machine& of) { inside(life_order{}, of) = shutdown{}; }, tick);

  rank_life_machine rank{decode_rank};
  rank.on_launch(plan);
  ends_by(
      "B20", rank, [](rank_life_machine& of) { inside(rank_heading{}, of) = life_state::warm; },
      [](rank_life_machine& of) { CHECK(of.on_inbox({}, at(0ms)).empty()); });

  restart_machine restarts{plan, {}};
  ends_by(
      "C38", restarts, [](restart_machine& of) { inside(restarts_of{}, of)[encode_rank].assign(99, at(0ms)); },
      [](restart_machine& of) { CHECK(of.allow(encode_rank, at(0ms), at(1ms))); });

  parity_machine parity{{"a", "b"}};
  ends_by(
      "B13", parity, [](parity_machine& of) { inside(parity_missing{}, of) = 1; },
      [](parity_machine& of) { CHECK(of.on_agree(rank_id{0}, {})); });

  first_cause_machine supervision{{{"a", "here"}}};
  ends_by(
      "C24", supervision,
      [](first_cause_machine& of) {
        auto& heard = inside(supervision_heard{}, of);
        heard.resize(2);
        heard.front().by = at(1ms);
      },
      [](first_cause_machine& of) { CHECK_FALSE(of.on_tick(at(0ms))); });

  liveness_judge judge{{.suspect = 1s, .silent = 2s, .look = 1s}};
  ends_by(
      "C4", judge, [](liveness_judge& of) { inside(judge_silence{}, of) = -1s; },
      [](liveness_judge& of) { of.on_sample(1, at(0ms)); });
}

TEST_CASE("B9, C20, C47: edges, links and ways") {
  edge_machine edges{plan, decode_rank, generation{1}, first_epoch,
                     recovery_deadlines{cluster_spec::timeouts_section{}}};
  const lane_name none{front_rank, channel_kind::group, group_id{77}};
  ends_by(
      "B9", edges, [&](edge_machine& of) { inside(edge_begun{}, of)[none] = generation{1}; },
      [](edge_machine& of) { of.on_unmade(front_rank, fault::timeout); });

  link_machine link;
  const auto lose = [](link_machine& of) { of.on_lost(); };
  ends_by(
      "C20", link,
      [](link_machine& of) {
        inside(link_state{}, of) = link_machine::state::gone;
        inside(link_begun{}, of) = at(0ms);
      },
      lose);

  way_machine way;
  way.on_knocked(at(0ms));
  way.on_admitted();
  way.on_open();
  way.on_broken({fault::peer_gone, {}}, true, at(1ms));
  ends_by(
      "C47", way, [](way_machine& of) { inside(way_state{}, of) = way_machine::state::open; },
      [](way_machine& of) { of.on_given_up(at(2ms)); });

  write_course course;
  CHECK(broken_by([&] { course.on_completed(); }) == "I31 in_flight_ > 0");
  course.on_posted(false);
  CHECK(broken_by([&] { course.on_posted(true); }) == "I31 may_post(last)"); // while another is in flight
}

TEST_CASE("A25, K3: collectives of a step, and the memory that is lent") {
  collective_plan_machine calls{plan.groups.front(), 0};
  REQUIRE(calls.begin(call_id{1}, "step", 2));
  ends_by(
      "A25", calls, [](collective_plan_machine& of) { inside(plan_seen{}, of) = 3; },
      [](collective_plan_machine& of) { CHECK(of.enter("sum", 1)); });

  slot_pool_machine slots{2};
  ends_by(
      "K3", slots, [](slot_pool_machine& of) { ++inside(slots_lent{}, of); },
      [](slot_pool_machine& of) { CHECK(of.acquire()); });
  block_pool_machine blocks{4};
  ends_by(
      "K3", blocks, [](block_pool_machine& of) { ++inside(blocks_lent{}, of); },
      [](block_pool_machine& of) { CHECK(of.reserve(2)); });

  lent_rooms rooms;
  rooms.lend(request_id{1}, room_id{1}, {encode_rank});
  ends_by(
      "K2", rooms, [](lent_rooms& of) { inside(rooms_lent{}, of).at(room_id{1}).writers.begin()->second.until = 1s; },
      [](lent_rooms& of) { of.on_tick(at(1ms)); });

  grants_of_kv grants;
  grant_blocks grant;
  grant.valid_ms = 1000;
  REQUIRE(grants.take(decode_rank, grant, at(0ms)));
  ends_by(
      "K2", grants, [](grants_of_kv& of) { of.by_part().at(0).revoked = true; },
      [](grants_of_kv& of) { of.on_lost(std::vector{front_rank}); });
}

TEST_CASE("K2, K3, F14, E16: the machines of the cells") {
  prefill_leader_machine leader{
      plan, prefill_cell, {.front = front_rank, .kv_blocks = 4, .row_slots = 1, .requests_max = 4}};
  REQUIRE_FALSE(leader.on_submit(work(), at(0ms)).empty());
  ends_by(
      "C23", leader,
      [](prefill_leader_machine& of) { inside(leader_ledger{}, of).find(request_id{1})->second.kv_sent.clear(); },
      [](prefill_leader_machine& of) { of.on_tick(at(1ms)); });
  ends_by(
      "K3", leader,
      [](prefill_leader_machine& of) { inside(leader_ledger{}, of).find(request_id{1})->second.blocks.clear(); },
      [](prefill_leader_machine& of) { of.on_tick(at(1ms)); });

  prefill_member_machine member{
      plan,
      prefill_cell,
      prefill_worker,
      {.row_elements = 6, .room_deadline = 1s, .rooms_max = 8, .overlap = {{decode_cell, {0}}}}};
  REQUIRE_FALSE(member
                    .on_reserve_rows({.request = request_id{1},
                                      .room = room_id{7},
                                      .slot = {},
                                      .tokens = 4,
                                      .encode_cell = encode_cell,
                                      .deadline_ms = 1000},
                                     at(0ms))
                    .empty());
  ends_by(
      "K9", member, [](prefill_member_machine& of) { inside(member_bounds{}, of).rooms_max = 0; },
      [](prefill_member_machine& of) { of.on_tick(at(1ms)); });

  decode_leader_machine decode{
      plan, decode_cell, {.front = front_rank, .kv_blocks = 4, .room_deadline = 1s, .requests_max = 4}};
  REQUIRE_FALSE(decode.on_reserve(reservation(), at(0ms)).empty());
  ends_by(
      "F14", decode,
      [](decode_leader_machine& of) {
        inside(leader_early{}, of)[request_id{1}] = {handover{}, at(1s)};
      },
      [](decode_leader_machine& of) { of.on_tick(at(1ms)); });

  decode_member_machine blocks{plan, decode_cell, decode_rank, {.rooms_max = 4, .overlap = {{prefill_cell, {0, 1}}}}};
  REQUIRE_FALSE(blocks
                    .on_reserve_blocks({.request = request_id{1},
                                        .room = room_id{8},
                                        .prompt_tokens = 20,
                                        .blocks = {block_index{0}, block_index{1}},
                                        .lease_generation = generation{1},
                                        .prefill_cell = prefill_cell,
                                        .deadline_ms = 1000},
                                       at(0ms))
                    .empty());
  ends_by(
      "K2", blocks, [](decode_member_machine& of) { inside(decode_member_lent{}, of) = lent_rooms{}; },
      [](decode_member_machine& of) { of.on_tick(at(1ms)); });

  encode_machine encode{plan,
                        encode_cell,
                        {.front = front_rank,
                         .pixel_slots = 2,
                         .row_slots = 1,
                         .row_elements = 6,
                         .row_slot_tokens = 8,
                         .room_deadline = 1s,
                         .rooms_max = 8}};
  ends_by(
      "K3", encode, [](encode_machine& of) { CHECK(inside(encode_rows{}, of).acquire()); },
      [](encode_machine& of) { of.on_tick(at(1ms)); });

  step_machine steps{plan.cell(decode_cell), 0, {}};
  ends_by(
      "G7", steps, [](step_machine& of) { inside(step_begun{}, of) = 99; },
      [](step_machine& of) { CHECK(of.on_vote({.request = request_id{1}, .rooms = {room_id{1}}})); });
}

TEST_CASE("K3, K7: the machines of the front") {
  front_machine front{plan,
                      {.in_flight_max = 2,
                       .context_max = 64,
                       .kv_tokens_max = 64,
                       .row_slots = 4,
                       .pixel_slots = 1,
                       .staging_slots = 2,
                       .picture_tokens_max = 16,
                       .end_tokens = {9},
                       .request_deadline = 10s,
                       .ack_deadline = 1h,
                       .drain_deadline = 3s}};
  const auto take_tokens = [](front_machine& of) {
    of.on_tokens(decode_rank, {}, at(1ms));
  }; // on the way of a token too
  ends_by(
      "K3", front, [](front_machine& of) { CHECK(inside(front_staging{}, of).acquire()); }, take_tokens);
  ends_by(
      "K3", front, [](front_machine& of) { inside(front_decode{}, of).front().blocks = 1; }, take_tokens);

  session_machine sessions{{}};
  ends_by(
      "K3", sessions, [](session_machine& of) { inside(session_ingests{}, of) = 1; },
      [](session_machine& of) { of.on_tick(at(1ms)); });

  ingest_machine ingest{
      {.readers = 3, .readers_large = 2, .large_pixels = 100, .questions_max = 4, .reading_deadline = 10s}};
  ingest_machine::effects out;
  ingest.on_question({200, at(1s)}, at(0ms), out);
  ends_by(
      "K7", ingest, [](ingest_machine& of) { inside(ingest_bounds{}, of).readers_large = 0; },
      [](ingest_machine& of) { of.on_tick(at(1ms)); });
}
