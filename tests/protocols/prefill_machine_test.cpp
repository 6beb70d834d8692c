#include "protocols/serve/prefill_machine.hpp"
#include "protocols/serve/roles.hpp"

#include <doctest/doctest.h>

#include "serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

constexpr cell_id encode_cell{1};
constexpr cell_id prefill_cell{3};
constexpr cell_id decode_cell{4};
constexpr room_id picture_room{7};
constexpr room_id kv_room{8};

submit work(std::uint64_t request, bool picture, std::size_t prompt = 20) {
  submit out{.request = request_id{request},
             .prompt = std::vector<token_id>(prompt, 1),
             .pictures = {},
             .sampling = {},
             .kv_room = kv_room,
             .decode_cell = decode_cell,
             .deadline_ms = 1000};
  if (picture)
    out.pictures = {{.room = picture_room,
                     .first_token = 2,
                     .tokens = 4,
                     .grid = {1, 4, 4},
                     .content_hash = 0,
                     .encode_cell = encode_cell}};
  return out;
}

struct leader_fixture {
  cluster_plan plan = reader_plan();
  prefill_leader_machine machine{
      plan, prefill_cell, {.front = front_rank, .kv_blocks = 4, .row_slots = 1, .requests_max = 4}};

  /// The picture's rows are everywhere and the mesh has been asked.
  void gather() {
    (void)machine.on_submit(work(1, true), at(0ms));
    (void)machine.on_arrived({request_id{1}, picture_room}, 0, at(1ms));
    REQUIRE(only<prefill_leader_machine::vote>(machine.on_arrived({request_id{1}, picture_room}, 1, at(1ms))).size() ==
            1);
  }
};

struct member_fixture {
  cluster_plan plan = reader_plan();
  prefill_member_machine machine{
      plan,
      prefill_cell,
      prefill_worker,
      {.row_elements = 6, .room_deadline = 1s, .rooms_max = 8, .overlap = {{decode_cell, {0}}}}};

  grant_blocks grant(std::size_t blocks = 2) {
    return {.request = request_id{1},
            .room = kv_room,
            .part = 0,
            .parts = 1,
            .prompt_tokens = 20,
            .blocks = std::vector<block_index>(blocks, block_index{5}),
            .lease_generation = generation{1},
            .dtype = element_type::f32,
            .born = generation{1},
            .valid_ms = 1000};
  }
  prefill_member_machine::effects prefill() {
    return machine.on_prefilled(request_id{1}, kv_room, decode_cell, {block_index{0}, block_index{1}}, at(5ms));
  }
};

} // namespace

TEST_CASE_FIXTURE(leader_fixture,
                  "B15: the mesh is asked once every rank has the rows, and runs what all say is done") {
  const auto reserved = sent<reserve_rows>(machine.on_submit(work(1, true), at(0ms)));
  REQUIRE(reserved.size() == 2);
  CHECK(reserved[0].first == prefill_leader);
  CHECK(reserved[1].first == prefill_worker);
  CHECK(reserved[0].second.slot == reserved[1].second.slot);

  CHECK(machine.on_arrived({request_id{1}, picture_room}, 0, at(1ms)).empty());
  const auto votes = only<prefill_leader_machine::vote>(machine.on_arrived({request_id{1}, picture_room}, 1, at(2ms)));
  REQUIRE(votes.size() == 1);
  CHECK(votes[0].rooms == std::vector<room_id>{picture_room});

  const auto runs =
      only<prefill_leader_machine::run_prefill>(machine.on_vote(request_id{1}, {admission::done}, at(3ms)));
  REQUIRE(runs.size() == 1);
  CHECK(runs[0].blocks.size() == 2);
}

TEST_CASE("D19: of two pictures one arrives twice: only the other is still awaited") {
  const auto plan = reader_plan();
  prefill_leader_machine machine{
      plan, prefill_cell, {.front = front_rank, .kv_blocks = 4, .row_slots = 2, .requests_max = 4}};
  auto both = work(1, true);
  both.pictures.push_back(both.pictures[0]);
  both.pictures[1].room = room_id{70};
  both.pictures[1].first_token = 8;
  CHECK(sent<reserve_rows>(machine.on_submit(both, at(0ms))).size() == 4);
  for (int again = 0; again < 2; ++again)
    for (const auto place : {0u, 1u})
      CHECK(machine.on_arrived({request_id{1}, picture_room}, place, at(1ms)).empty());

  CHECK(machine.on_arrived({request_id{1}, room_id{70}}, 0, at(2ms)).empty());
  const auto votes = only<prefill_leader_machine::vote>(machine.on_arrived({request_id{1}, room_id{70}}, 1, at(2ms)));
  REQUIRE(votes.size() == 1);
  CHECK(votes[0].rooms.size() == 2);
}

TEST_CASE_FIXTURE(
    leader_fixture,
    "B16, C22: one rank that says failed keeps the request out of the collective, and every rank lets go") {
  gather();
  const auto effects = machine.on_vote(request_id{1}, {admission::failed}, at(2ms));
  CHECK(only<prefill_leader_machine::run_prefill>(effects).empty());
  REQUIRE(sent<error>(effects).size() == 1);
  CHECK(fault_from(sent<error>(effects)[0].second.code) == fault::not_admitted);
  CHECK(sent<release>(effects).size() == 2);
}

TEST_CASE_FIXTURE(leader_fixture, "I29: a request without pictures waits for nothing") {
  CHECK(only<prefill_leader_machine::run_prefill>(machine.on_submit(work(1, false), at(0ms))).size() == 1);
}

TEST_CASE_FIXTURE(leader_fixture,
                  "C23, I27: what does not fit waits in order, and enters when every rank of the first has shipped") {
  (void)machine.on_submit(work(1, false, 64), at(0ms)); // all four blocks
  CHECK(only<prefill_leader_machine::run_prefill>(machine.on_submit(work(2, false, 16), at(0ms))).empty());
  const auto handed = machine.on_prefilled(request_id{1}, 42, -3, 99, at(1ms));
  REQUIRE(sent<handover>(handed).size() == 1);
  CHECK(sent<handover>(handed)[0].first == decode_rank);
  CHECK(sent<handover>(handed)[0].second.first_token == 42);
  CHECK(sent<handover>(handed)[0].second.position_delta == -3);

  CHECK(machine.on_kv_sent({request_id{1}, kv_room, 0, {}}, 0, at(2ms)).empty());
  const auto effects = machine.on_kv_sent({request_id{1}, kv_room, 0, {}}, 1, at(2ms));
  CHECK(sent<release>(effects).size() == 2);
  const auto runs = only<prefill_leader_machine::run_prefill>(effects);
  REQUIRE(runs.size() == 1);
  CHECK(runs[0].work.request == request_id{2});
}

TEST_CASE_FIXTURE(leader_fixture,
                  "C25: rows that do not arrive within the request's time fail it, and their slot rests") {
  (void)machine.on_submit(work(1, true), at(0ms));
  (void)machine.on_arrived({request_id{1}, picture_room}, 0, at(1ms));
  const auto effects = machine.on_tick(at(1000ms));
  REQUIRE(sent<error>(effects).size() == 1);
  CHECK(sent<error>(effects)[0].second.message.find("1 of 2") != std::string::npos);
  CHECK(sent<release>(effects).size() == 2);
  CHECK(sent<reserve_rows>(machine.on_submit(work(2, true), at(1001ms))).empty()); // I24: the only row slot rests
}

TEST_CASE_FIXTURE(leader_fixture,
                  "K2: a row slot is lent again when every rank of the cell is quiet, however long it takes") {
  (void)machine.on_submit(work(1, true), at(0ms));
  (void)machine.on_submit(work(2, true), at(0ms));
  CHECK(sent<reserve_rows>(machine.on_cancel(request_id{1}, at(1ms))).empty());
  CHECK(sent<reserve_rows>(machine.on_quiet({request_id{1}}, 0, at(2ms))).empty());
  CHECK(sent<reserve_rows>(machine.on_quiet({request_id{1}}, 0, at(2ms))).empty()); // twice is once
  CHECK(sent<reserve_rows>(machine.on_tick(at(900ms))).empty());
  CHECK(sent<reserve_rows>(machine.on_quiet({request_id{1}}, 1, at(901ms))).size() == 2);
}

TEST_CASE_FIXTURE(
    leader_fixture,
    "C9, K2: a cancel while the mesh is in the forward reaches its ranks at once and hands over nothing") {
  gather();
  (void)machine.on_vote(request_id{1}, {admission::done}, at(2ms));
  const auto told = machine.on_cancel(request_id{1}, at(3ms));
  CHECK(sent<release>(told).size() == 2);
  CHECK(only<prefill_leader_machine::stop_prefill>(told).size() == 1);
  const auto after = machine.on_prefilled(request_id{1}, 42, 0, 0, at(4ms));
  CHECK(sent<handover>(after).empty());
  CHECK(sent<release>(after).size() == 2);
  (void)machine.on_kv_sent({request_id{1}, kv_room, static_cast<std::uint16_t>(fault::cancelled), {}}, 0, at(5ms));
  (void)machine.on_kv_sent({request_id{1}, kv_room, static_cast<std::uint16_t>(fault::cancelled), {}}, 1, at(5ms));
  CHECK(machine.requests() == 0);
}

TEST_CASE_FIXTURE(leader_fixture, "D11: a submit of a request that has ended is dropped") {
  (void)machine.on_cancel(request_id{1}, at(0ms));
  CHECK(machine.on_submit(work(1, false), at(1ms)).empty());
}

TEST_CASE_FIXTURE(member_fixture, "I12: a member grants its rows, and tells its leader once when they have arrived") {
  const reserve_rows order{.request = request_id{1},
                           .room = picture_room,
                           .slot = {slot_index{2}, generation{3}},
                           .tokens = 4,
                           .encode_cell = encode_cell,
                           .deadline_ms = 1000};
  const auto effects = machine.on_reserve_rows(order, at(0ms));
  const auto grants = sent<grant_rows>(effects);
  REQUIRE(grants.size() == 1);
  CHECK(grants[0].first == encode_rank);
  CHECK(grants[0].second.part == 1);
  CHECK(grants[0].second.parts == 2);
  CHECK(machine.on_reserve_rows(order, at(1ms)).empty()); // D10

  const auto news = machine.on_rows_arrived(picture_room, encode_rank, at(2ms));
  REQUIRE(only<prefill_member_machine::set_admission>(news).size() == 1);
  CHECK(only<prefill_member_machine::set_admission>(news)[0].status == admission::done);
  CHECK(sent<arrived>(news).at(0).first == prefill_leader);
  CHECK(machine.on_rows_arrived(picture_room, encode_rank, at(3ms)).empty());
}

TEST_CASE_FIXTURE(member_fixture, "a member whose rows do not arrive says failed when the mesh votes") {
  (void)machine.on_reserve_rows({request_id{1}, picture_room, {slot_index{2}, generation{3}}, 4, encode_cell, 1000},
                                at(0ms));
  const auto said = only<prefill_member_machine::set_admission>(machine.on_tick(at(1000ms)));
  REQUIRE(said.size() == 1);
  CHECK(said[0].status == admission::failed);
  CHECK(machine.on_tick(at(2000ms)).empty());
}

TEST_CASE_FIXTURE(member_fixture, "I14: keys and values are written when both the forward and the grant are there") {
  SUBCASE("grant first") {
    CHECK(machine.on_grant(decode_rank, grant(), at(0ms)).empty());
    CHECK(only<prefill_member_machine::write_blocks>(prefill()).size() == 1);
  }
  SUBCASE("forward first") {
    CHECK(prefill().empty());
    CHECK(only<prefill_member_machine::write_blocks>(machine.on_grant(decode_rank, grant(), at(6ms))).size() == 1);
  }
  const auto done = sent<kv_sent>(machine.on_written(kv_room, 0, {}, at(7ms)));
  REQUIRE(done.size() == 1);
  CHECK(done[0].second.code == 0);
}

TEST_CASE_FIXTURE(member_fixture, "a grant is believed only from the rank that it names") {
  (void)prefill();
  CHECK(machine.on_grant(encode_rank, grant(), at(6ms)).empty());
}

TEST_CASE_FIXTURE(member_fixture,
                  "I13: a grant of another element type fails the room by name, and nothing is written") {
  (void)prefill();
  auto other = grant();
  other.dtype = element_type::bf16;
  const auto effects = machine.on_grant(decode_rank, other, at(6ms));
  CHECK(only<prefill_member_machine::write_blocks>(effects).empty());
  const auto told = sent<kv_sent>(effects).at(0).second;
  CHECK(fault_from(told.code) == fault::span_mismatch);
  CHECK(told.message == "decode part 0 keeps keys and values as bf16, this rank as f32");
}

TEST_CASE_FIXTURE(member_fixture, "I18: a grant of too few blocks fails the room by name, and nothing is written") {
  (void)prefill();
  const auto effects = machine.on_grant(decode_rank, grant(1), at(6ms));
  CHECK(only<prefill_member_machine::write_blocks>(effects).empty());
  CHECK(fault_from(sent<kv_sent>(effects).at(0).second.code) == fault::span_mismatch);
}

TEST_CASE_FIXTURE(member_fixture, "C15: a release while a write is on its way is answered when the write has ended") {
  (void)prefill();
  (void)machine.on_grant(decode_rank, grant(), at(6ms));
  CHECK(sent<kv_sent>(machine.on_release(request_id{1}, at(7ms))).empty());
  CHECK(sent<kv_sent>(machine.on_written(kv_room, 0, {}, at(8ms))).size() == 1);
}

TEST_CASE_FIXTURE(member_fixture, "C48: a decode rank that never grants fails the room by its deadline") {
  (void)prefill();
  CHECK(machine.on_tick(at(1004ms)).empty());
  const auto news = sent<kv_sent>(machine.on_tick(at(1005ms)));
  REQUIRE(news.size() == 1);
  CHECK(fault_from(news[0].second.code) == fault::timeout);
}

TEST_CASE_FIXTURE(member_fixture, "a forward that ends after its request was released ships nothing and says so") {
  (void)machine.on_release(request_id{1}, at(0ms));
  const auto news = sent<kv_sent>(prefill());
  REQUIRE(news.size() == 1);
  CHECK(fault_from(news[0].second.code) == fault::cancelled);
}

TEST_CASE_FIXTURE(leader_fixture, "A12: a leader says at once that it has a request, or why it will not have it") {
  const auto taken = sent<ack>(machine.on_submit(work(1, true), at(0ms)));
  REQUIRE(taken.size() == 1);
  CHECK(taken[0] == std::pair{front_rank, ack{request_id{1}}});

  const auto huge = machine.on_submit(work(2, false, 65), at(0ms)); // four blocks of 16
  CHECK(sent<ack>(huge).empty());
  REQUIRE(sent<error>(huge).size() == 1);
  CHECK(fault_from(sent<error>(huge)[0].second.code) == fault::no_memory);
  CHECK(sent<ack>(machine.on_submit(work(3, false), at(0ms))).size() == 1); // nothing is held up by it
}

namespace {

/// A member whose keys and values go to two decode ranks.
struct two_parts {
  cluster_plan plan = [] {
    cluster_spec spec;
    spec.pools = {{"front", serve_role::front, 1, 1, 1},
                  {"prefill", serve_role::prefill, 1, 1, 1},
                  {"decode", serve_role::decode, 1, 2, 1}};
    return make_plan(spec).value();
  }();
  rank_id self{1};
  rank_id first{2};
  rank_id second{3};
  cell_id decode = plan.cells_of(serve_role::decode)[0];
  prefill_member_machine machine{plan,
                                 plan.cells_of(serve_role::prefill)[0],
                                 self,
                                 {.born = generation{1},
                                  .row_elements = 6,
                                  .room_deadline = 1s,
                                  .rooms_max = 8,
                                  .kv_dtype = element_type::f32,
                                  .overlap = {{decode, {0, 1}}}}};

  grant_blocks grant(std::uint32_t part, std::uint32_t valid_ms = 1000) const {
    return {.request = request_id{1},
            .room = kv_room,
            .part = part,
            .parts = 2,
            .prompt_tokens = 20,
            .blocks = {block_index{5}, block_index{6}},
            .lease_generation = generation{1},
            .dtype = element_type::f32,
            .born = generation{1},
            .valid_ms = valid_ms};
  }
  prefill_member_machine::effects prefill(std::chrono::milliseconds now = 5ms) {
    return machine.on_prefilled(request_id{1}, kv_room, decode, {block_index{0}, block_index{1}}, at(now));
  }
};

} // namespace

TEST_CASE_FIXTURE(two_parts, "K15: a part that failed is a failure of the whole, in whatever order the parts end") {
  for (const std::uint32_t failing : {0u, 1u})
    for (const bool fails_first : {true, false}) {
      two_parts one;
      (void)one.machine.on_grant(one.first, one.grant(0), at(0ms));
      (void)one.machine.on_grant(one.second, one.grant(1), at(0ms));
      REQUIRE(only<prefill_member_machine::write_blocks>(one.prefill()).size() == 2);
      const auto end = [&](bool fails) {
        return fails ? one.machine.on_written(kv_room, failing, fail(fault::transfer_failed, "cut"), at(6ms))
                     : one.machine.on_written(kv_room, 1 - failing, {}, at(6ms));
      };
      const auto before = end(fails_first);
      CHECK(sent<kv_sent>(before).empty()); // the other part still reads the blocks
      const auto after = end(!fails_first);
      const auto news = sent<kv_sent>(after);
      REQUIRE(news.size() == 1);
      CHECK(fault_from(news[0].second.code) == fault::transfer_failed);
      const auto word = sent<blocks_returned>(fails_first ? before : after);
      REQUIRE(word.size() == 1);
      CHECK(word[0].first == (failing == 0 ? one.first : one.second));
      CHECK_FALSE(word[0].second.settled);
    }
}

TEST_CASE_FIXTURE(two_parts, "K15: after a part has failed no other is begun, and its grant goes back") {
  (void)machine.on_grant(first, grant(0), at(0ms));
  (void)prefill();
  const auto news = machine.on_written(kv_room, 0, fail(fault::peer_gone, "cut"), at(6ms));
  CHECK(fault_from(sent<kv_sent>(news).at(0).second.code) == fault::peer_gone);
  const auto late = machine.on_grant(second, grant(1), at(7ms));
  CHECK(only<prefill_member_machine::write_blocks>(late).empty());
  CHECK(sent<blocks_returned>(late).size() == 1);
}

TEST_CASE_FIXTURE(two_parts, "K15: of two parts that failed the first failure is told") {
  (void)machine.on_grant(first, grant(0), at(0ms));
  (void)machine.on_grant(second, grant(1), at(0ms));
  REQUIRE(only<prefill_member_machine::write_blocks>(prefill()).size() == 2);
  CHECK(sent<kv_sent>(machine.on_written(kv_room, 1, fail(fault::transfer_failed, "cut"), at(6ms))).empty());
  const auto news = sent<kv_sent>(machine.on_written(kv_room, 0, fail(fault::peer_gone), at(7ms)));
  REQUIRE(news.size() == 1);
  CHECK(fault_from(news[0].second.code) == fault::transfer_failed);
  CHECK(news[0].second.message.find("part 1: cut") != std::string::npos);
}

TEST_CASE_FIXTURE(leader_fixture, "K15: of two ranks of the mesh that failed the front hears of the first alone") {
  (void)machine.on_submit(work(1, false), at(0ms));
  (void)machine.on_prefilled(request_id{1}, 5, 0, 0, at(1ms));
  const auto ends = [&](std::uint32_t place, fault code) {
    return sent<error>(machine.on_kv_sent(
        {.request = request_id{1}, .room = kv_room, .code = static_cast<std::uint16_t>(code), .message = "cut"}, place,
        at(2ms)));
  };
  const auto told = ends(1, fault::transfer_failed);
  REQUIRE(told.size() == 1);
  CHECK(fault_from(told[0].second.code) == fault::transfer_failed);
  CHECK(ends(0, fault::peer_gone).empty());
  CHECK(machine.ended(request_id{1}));
}

TEST_CASE("K15: a part that is granted after another has failed is not begun while a third is on its way") {
  cluster_spec spec;
  spec.pools = {{"front", serve_role::front, 1, 1, 1},
                {"prefill", serve_role::prefill, 1, 1, 1},
                {"decode", serve_role::decode, 1, 3, 1}};
  const auto plan = make_plan(spec).value();
  const auto decode = plan.cells_of(serve_role::decode)[0];
  prefill_member_machine machine{plan,
                                 plan.cells_of(serve_role::prefill)[0],
                                 rank_id{1},
                                 {.born = generation{1},
                                  .row_elements = 6,
                                  .room_deadline = 1s,
                                  .rooms_max = 8,
                                  .kv_dtype = element_type::f32,
                                  .overlap = {{decode, {0, 1, 2}}}}};
  const auto grant = [&](std::uint32_t part) {
    return machine.on_grant(plan.cell(decode).ranks[part],
                            {.request = request_id{1},
                             .room = kv_room,
                             .part = part,
                             .parts = 3,
                             .prompt_tokens = 20,
                             .blocks = {block_index{5}, block_index{6}},
                             .lease_generation = generation{1},
                             .dtype = element_type::f32,
                             .born = generation{1},
                             .valid_ms = 1000},
                            at(0ms));
  };
  (void)grant(0);
  (void)grant(1);
  (void)machine.on_prefilled(request_id{1}, kv_room, decode, {block_index{0}, block_index{1}}, at(5ms));
  (void)machine.on_written(kv_room, 0, fail(fault::transfer_failed, "cut"), at(6ms));
  const auto late = grant(2);
  CHECK(only<prefill_member_machine::write_blocks>(late).empty());
  CHECK(sent<blocks_returned>(late).size() == 1);
  CHECK(sent<kv_sent>(late).empty()); // part 1 is on its way
  CHECK(sent<kv_sent>(machine.on_written(kv_room, 1, {}, at(7ms))).size() == 1);
}

TEST_CASE_FIXTURE(two_parts, "K1: keys and values are written under no lease that has ended") {
  (void)machine.on_grant(first, grant(0), at(0ms));
  (void)machine.on_grant(second, grant(1, 10), at(0ms));
  const auto effects = prefill(10ms);
  const auto told = sent<kv_sent>(machine.on_written(kv_room, 0, {}, at(11ms)));
  CHECK(only<prefill_member_machine::write_blocks>(effects).size() == 1); // part 0 was asked first
  REQUIRE(told.size() == 1);
  CHECK(fault_from(told[0].second.code) == fault::stale_grant);
  CHECK(sent<blocks_returned>(effects).size() == 1);
}

TEST_CASE_FIXTURE(two_parts,
                  "K1, K2: cancelled while it waits for its turn: the grants go back, and nothing is written later") {
  (void)machine.on_grant(first, grant(0), at(0ms));
  (void)machine.on_grant(second, grant(1), at(0ms));
  prefill_member_machine::effects ended;
  SUBCASE("by the leader of its own cell") {
    ended = machine.on_release(request_id{1}, at(1ms));
    CHECK(sent<blocks_returned>(ended).size() == 2);
  }
  SUBCASE("by the decode rank alone: the front's word to prefill is late") {
    ended = machine.on_revoke(first, {request_id{1}, kv_room});
    CHECK(sent<blocks_returned>(ended).size() == 2);
  }
  SUBCASE("by the loss of the decode cell") {
    ended = machine.on_lost({.ranks = {first, second}, .next = generation{2}, .cause = {}});
    CHECK(sent<blocks_returned>(ended).empty()); // nobody is there
    CHECK(machine.on_grant(first, grant(0), at(2ms)).empty());
  }
  const auto after = prefill();
  CHECK(only<prefill_member_machine::write_blocks>(after).empty());
  REQUIRE(sent<kv_sent>(after).size() == 1);
  CHECK(sent<kv_sent>(after)[0].second.code != 0);
}

TEST_CASE_FIXTURE(two_parts, "K1: a grant that was under way while its owner was lost opens nothing") {
  REQUIRE(machine.on_lost({.ranks = {first, second}, .next = generation{2}, .cause = {}}).empty());
  CHECK(machine.on_grant(first, grant(0), at(1ms)).empty()); // of generation 1: its memory has other tenants
  auto fresh = grant(1);
  fresh.born = generation{2};
  CHECK(machine.on_grant(second, fresh, at(1ms)).empty());
  const auto writes = only<prefill_member_machine::write_blocks>(prefill());
  REQUIRE(writes.size() == 1);
  CHECK(writes[0].part == 1);
}

TEST_CASE_FIXTURE(two_parts,
                  "K2: blocks that are taken back are returned when the write that is on its way has ended") {
  (void)machine.on_grant(first, grant(0), at(0ms));
  (void)machine.on_grant(second, grant(1), at(0ms));
  REQUIRE(only<prefill_member_machine::write_blocks>(prefill()).size() == 2);
  for (const bool arrives : {true, false}) {
    const auto from = arrives ? first : second;
    CHECK(machine.on_revoke(from, {request_id{1}, kv_room}).empty());
    const auto outcome = arrives ? result<void>{} : fail(fault::timeout);
    const auto word = sent<blocks_returned>(machine.on_written(kv_room, arrives ? 0 : 1, outcome, at(6ms)));
    REQUIRE(word.size() == 1);
    CHECK(word[0] == std::pair{from, blocks_returned{request_id{1}, kv_room, arrives}});
  }
}

TEST_CASE_FIXTURE(
    member_fixture,
    "K2, K9: a room whose blocks are taken back before anything was prefilled goes, and holds up no other") {
  const auto granted = [&](std::uint64_t request) {
    auto out = grant();
    out.request = request_id{request};
    out.room = room_id{kv_room.value + request - 1};
    return machine.on_grant(decode_rank, out, at(0ms));
  };
  for (std::uint64_t request = 1; request <= 9; ++request) { // one more than rooms_max
    CAPTURE(request);
    CHECK(sent<blocks_returned>(granted(request)).empty());
    const room_id room{kv_room.value + request - 1};
    const auto ended = machine.on_revoke(decode_rank, {request_id{request}, room}); // nobody releases it here
    REQUIRE(sent<blocks_returned>(ended).size() == 1);
    CHECK(sent<blocks_returned>(ended)[0].second == blocks_returned{request_id{request}, room, true});
    CHECK(machine.at_rest());
  }
  CHECK(sent<blocks_returned>(granted(1)).size() == 1); // late: its request is over
  CHECK(machine.at_rest());
}

TEST_CASE_FIXTURE(leader_fixture, "K8: a prompt that carries its own fault ends by name, and what it held is free") {
  for (const bool ran_whole : {false, true}) {
    CAPTURE(ran_whole);
    prefill_leader_machine one{
        plan, prefill_cell, {.front = front_rank, .kv_blocks = 4, .row_slots = 1, .requests_max = 4}};
    REQUIRE(only<prefill_leader_machine::run_prefill>(one.on_submit(work(1, false, 64), at(0ms))).size() == 1);

    auto effects = one.on_given_up(request_id{1}, {fault::not_finite, "token 0"}, ran_whole, at(1ms));

    REQUIRE(sent<error>(effects).size() == 1);
    CHECK(fault_from(sent<error>(effects)[0].second.code) == fault::not_finite);
    CHECK(sent<handover>(effects).empty());
    CHECK(sent<release>(effects).size() == 2);
    CHECK(one.ended(request_id{1}) == !ran_whole); // what is on its way is kept until it is there (C23)
    for (const auto place : {0u, 1u})
      (void)one.on_kv_sent({.request = request_id{1}, .room = kv_room, .code = 0, .message = {}}, place, at(2ms));
    CHECK(one.ended(request_id{1}));
    CHECK(only<prefill_leader_machine::run_prefill>(one.on_submit(work(2, false, 64), at(3ms))).size() == 1);
  }
}

TEST_CASE_FIXTURE(leader_fixture, "K7: a prompt that is cancelled while it runs is stopped, and told to nobody again") {
  (void)machine.on_submit(work(1, false, 64), at(0ms));
  const auto cancelled = machine.on_cancel(request_id{1}, at(1ms));
  CHECK(only<prefill_leader_machine::stop_prefill>(cancelled) ==
        std::vector{prefill_leader_machine::stop_prefill{request_id{1}}});
  const auto effects = machine.on_given_up(request_id{1}, {fault::cancelled, {}}, false, at(2ms));
  CHECK(sent<error>(effects).empty());
  CHECK(sent<release>(effects).size() == 2);
  CHECK(only<prefill_leader_machine::run_prefill>(machine.on_submit(work(2, false, 64), at(3ms))).size() == 1);
}
