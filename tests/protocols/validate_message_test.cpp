#include "protocols/serve/roles.hpp"
#include "protocols/serve/validate_message.hpp"

#include <doctest/doctest.h>

#include "every_message.hpp"
#include "protocols/serve/decode_machine.hpp"
#include "protocols/serve/encode_machine.hpp"
#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/prefill_machine.hpp"
#include "serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

fault refusal(rank_id self, rank_id from, const serve_message& message) {
  const auto judged = validate_message(reader_plan(), self, from, message);
  REQUIRE_FALSE(judged);
  return judged.error().code;
}

submit good_submit() {
  return {
      .request = request_id{1},
      .prompt = {1, 7, 7, 2},
      .pictures = {{.room = room_id{2}, .first_token = 1, .tokens = 2, .grid = {1, 2, 4}, .encode_cell = cell_id{1}}},
      .sampling = {},
      .kv_room = room_id{1},
      .decode_cell = cell_id{4},
      .deadline_ms = 100};
}

} // namespace

TEST_CASE("A8: work comes from the front to a leader, and names cells that the plan has") {
  const auto plan = reader_plan();
  CHECK(validate_message(plan, prefill_leader, front_rank, good_submit()));
  CHECK(refusal(prefill_leader, decode_rank, good_submit()) == fault::wrong_rank);
  CHECK(refusal(prefill_worker, front_rank, good_submit()) == fault::wrong_rank);
  CHECK(refusal(prefill_leader, rank_id{99}, good_submit()) == fault::wrong_rank);

  auto work = good_submit();
  work.decode_cell = cell_id{3}; // prefill
  CHECK(refusal(prefill_leader, front_rank, work) == fault::bad_value);
  work = good_submit();
  work.pictures[0].encode_cell = cell_id{77};
  CHECK(refusal(prefill_leader, front_rank, work) == fault::bad_value);
  work = good_submit();
  work.pictures[0].tokens = 0xffff'ffff;
  CHECK(refusal(prefill_leader, front_rank, work) == fault::bad_value);
  work = good_submit();
  work.prompt.clear();
  CHECK(refusal(prefill_leader, front_rank, work) == fault::bad_value);
}

TEST_CASE("A8: what a cell is told of sampling, and what it tells of tokens, is bounded") {
  const auto plan = reader_plan();
  auto work = good_submit();
  work.sampling.rules.bias.resize(limits::logit_bias_max + 1);
  CHECK(refusal(prefill_leader, front_rank, work) == fault::bad_value);
  work = good_submit();
  work.sampling.rules.stop_ids.assign(limits::ending_ids_max, 3);
  CHECK(validate_message(plan, prefill_leader, front_rank, work));
  work.sampling.rules.stop_ids.push_back(4);
  CHECK(refusal(prefill_leader, front_rank, work) == fault::bad_value);
  work = good_submit();
  work.trace.name.assign(limits::request_name_bytes_max + 1, 'a');
  CHECK(refusal(prefill_leader, front_rank, work) == fault::bad_value);

  tokens batch{.events = {{.request = request_id{1}}}, .logprobs = {{.event = 0, .values = {{1, -1.0F}}}}};
  CHECK(validate_message(plan, front_rank, decode_rank, batch));
  batch.logprobs[0].event = 1;
  CHECK(refusal(front_rank, decode_rank, batch) == fault::bad_value);
  batch.logprobs[0] = {.event = 0, .values = std::vector<token_logprob>(limits::top_logprobs_max + 2)};
  CHECK(refusal(front_rank, decode_rank, batch) == fault::bad_value);
}

TEST_CASE("C42: a grant is believed only from the rank whose place it names") {
  const auto plan = reader_plan();
  grant_rows grant;
  grant.part = 1;
  grant.parts = 2;
  CHECK(validate_message(plan, encode_rank, prefill_worker, grant));
  CHECK(refusal(encode_rank, prefill_leader, grant) == fault::wrong_rank);
  CHECK(refusal(front_rank, prefill_worker, grant) == fault::wrong_rank);
}

TEST_CASE("B17: pictures are ordered by the front from the leader of an encode cell, and from nobody else of it") {
  cluster_spec spec;
  spec.pools = {{"front", serve_role::front, 1, 1, 1},
                {"encode", serve_role::encode, 1, 2, 1},
                {"prefill", serve_role::prefill, 1, 1, 1},
                {"decode", serve_role::decode, 1, 1, 1}};
  const auto plan = make_plan(spec).value();
  encode order;
  order.height = order.width = 32;
  order.tokens = 4;
  order.prefill_cell = plan.cells_of(serve_role::prefill).front();
  CHECK(validate_message(plan, rank_id{1}, front_rank, order));
  CHECK(validate_message(plan, rank_id{2}, front_rank, order).error().code == fault::wrong_rank);
  CHECK(validate_message(plan, rank_id{1}, rank_id{3}, order).error().code == fault::wrong_rank);
}

TEST_CASE("B5: what a leader tells its cell comes from that leader, what members answer goes to it") {
  const auto plan = reader_plan();
  CHECK(validate_message(plan, prefill_worker, prefill_leader, release{}));
  CHECK(refusal(prefill_worker, decode_rank, release{}) == fault::wrong_rank);
  CHECK(validate_message(plan, prefill_leader, prefill_worker, arrived{}));
  CHECK(refusal(prefill_leader, encode_rank, arrived{}) == fault::wrong_rank);
  CHECK(refusal(encode_rank, prefill_leader, cancel{}) == fault::wrong_rank);
}

namespace {

/// Every machine of a running cluster at once, to be told anything.
struct everybody {
  cluster_plan plan = reader_plan();
  front_machine front{plan,
                      {.in_flight_max = 4,
                       .context_max = 64,
                       .kv_tokens_max = 64,
                       .row_slots = 4,
                       .pixel_slots = 2,
                       .staging_slots = 4,
                       .picture_tokens_max = 16,
                       .end_tokens = {9},
                       .request_deadline = 10s,
                       .ack_deadline = 2s,
                       .quiet_after = 1s,
                       .drain_deadline = 3s}};
  encode_machine encode_cell{plan,
                             cell_id{1},
                             {.front = front_rank,
                              .pixel_slots = 2,
                              .row_slots = 2,
                              .row_elements = 8,
                              .row_slot_tokens = 16,
                              .room_deadline = 1s,
                              .rooms_max = 8}};
  prefill_leader_machine prefill{
      plan, cell_id{3}, {.front = front_rank, .kv_blocks = 4, .row_slots = 4, .requests_max = 8}};
  prefill_member_machine member{
      plan,
      cell_id{3},
      prefill_worker,
      {.row_elements = 8, .room_deadline = 1s, .rooms_max = 8, .overlap = {{cell_id{4}, {0}}}}};
  decode_leader_machine decode{
      plan, cell_id{4}, {.front = front_rank, .kv_blocks = 4, .room_deadline = 1s, .requests_max = 8}};
  decode_member_machine decode_member{
      plan, cell_id{4}, decode_rank, {.rooms_max = 8, .overlap = {{cell_id{3}, {0, 1}}}}};

  void tell(rank_id self, rank_id from, const serve_message& message, time_point now) {
    if (!validate_message(plan, self, from, message))
      return;
    const auto place = plan.cell(cell_id{3}).place_of(from);
    std::visit(
        [&]<class Message>(const Message& m) {
          if constexpr (std::is_same_v<Message, submit>)
            (void)prefill.on_submit(m, now);
          else if constexpr (std::is_same_v<Message, encode>)
            (void)encode_cell.on_encode(m, now);
          else if constexpr (std::is_same_v<Message, tokens>)
            (void)front.on_tokens(from, m, now);
          else if constexpr (std::is_same_v<Message, reserve_kv>)
            (void)decode.on_reserve(m, now);
          else if constexpr (std::is_same_v<Message, reserve_rows>)
            (void)member.on_reserve_rows(m, now);
          else if constexpr (std::is_same_v<Message, reserve_blocks>)
            (void)decode_member.on_reserve_blocks(m, now);
          else if constexpr (std::is_same_v<Message, grant_rows>)
            (void)encode_cell.on_grant(from, m, now);
          else if constexpr (std::is_same_v<Message, grant_blocks>)
            (void)member.on_grant(from, m, now);
          else if constexpr (std::is_same_v<Message, grant_pixels>)
            (void)front.on_pixel_credits(from, m, now);
          else if constexpr (std::is_same_v<Message, handover>)
            (void)decode.on_handover(m, now);
          else if constexpr (std::is_same_v<Message, error>)
            (void)front.on_error(from, m, now);
          else if constexpr (std::is_same_v<Message, ack>)
            front.on_ack(from, m);
          else if constexpr (std::is_same_v<Message, arrived>) {
            if (self == prefill_leader && place)
              (void)prefill.on_arrived(m, *place, now);
          } else if constexpr (std::is_same_v<Message, kv_sent>) {
            if (place)
              (void)prefill.on_kv_sent(m, *place, now);
          } else if constexpr (std::is_same_v<Message, release>)
            (void)(self == prefill_worker ? member.on_release(m.request, now).size()
                                          : decode_member.on_release(m.request, now).size());
          else if constexpr (std::is_same_v<Message, revoke_rows>)
            (void)encode_cell.on_revoke(from, m);
          else if constexpr (std::is_same_v<Message, revoke_blocks>)
            (void)member.on_revoke(from, m);
          else if constexpr (std::is_same_v<Message, pixels_returned>)
            (void)encode_cell.on_pixels_returned(m);
          else if constexpr (std::is_same_v<Message, rows_returned>)
            (void)member.on_rows_returned(from, m);
          else if constexpr (std::is_same_v<Message, blocks_returned>)
            (void)decode_member.on_returned(from, m);
          else if constexpr (std::is_same_v<Message, rows_quiet>) {
            if (place)
              (void)prefill.on_quiet(m, *place, now);
          } else if constexpr (std::is_same_v<Message, blocks_quiet>)
            (void)decode.on_quiet(m, 0, now);
          else if constexpr (std::is_same_v<Message, cancel>) {
            (void)prefill.on_cancel(m.request, now);
            (void)decode.on_cancel(m.request, now);
            (void)encode_cell.on_cancel(m.request, now);
          }
        },
        message);
  }
};

template <class... Messages>
serve_message any_message(std::uint64_t pick, std::uint64_t seed, std::variant<Messages...>*) {
  serve_message made;
  std::size_t index = 0;
  (void)((index++ == pick % sizeof...(Messages) && (made = testing::random_message<Messages>(seed, 6), true)) || ...);
  return made;
}

} // namespace

TEST_CASE("A10: whatever a rank sends to whomever, it is refused or taken, and nothing breaks") {
  everybody cluster;
  (void)cluster.front.on_request(
      {.id = request_id{1}, .prompt = {1, 2}, .pictures = {}, .sampling = {}, .max_tokens = 4}, at(0ms));
  (void)cluster.encode_cell.start();
  const std::uint64_t seed = 20261121;
  std::mt19937_64 random{seed};
  std::size_t taken = 0;
  for (int turn = 0; turn < 60'000; ++turn) {
    const auto now = at(std::chrono::milliseconds{turn});
    const rank_id self{static_cast<std::uint32_t>(random() % 6)};
    const rank_id from{static_cast<std::uint32_t>(random() % 8)};
    const auto message =
        any_message(random(), seed + static_cast<std::uint64_t>(turn), static_cast<serve_message*>(nullptr));
    INFO("seed ", seed, ", turn ", turn);
    taken += validate_message(cluster.plan, self, from, message) ? 1 : 0;
    REQUIRE_NOTHROW(cluster.tell(self, from, message, now));
    if (turn % 100 == 0) {
      (void)cluster.front.on_tick(now);
      (void)cluster.prefill.on_tick(now);
      (void)cluster.member.on_tick(now);
      (void)cluster.decode.on_tick(now);
      (void)cluster.decode_member.on_tick(now);
      (void)cluster.encode_cell.on_tick(now);
    }
  }
  CHECK(taken > 1000); // the walk goes through the machines and not only past their door
}
