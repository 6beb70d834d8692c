#include "tests/protocols/golden.hpp"

using namespace troupe::protocols;
using troupe::protocols::testing::check_golden;

namespace {

#define PLAIN_RULES "00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00 00 00000000 00000000"

mesh_plan announcement(plan_kind kind, call_id call) {
  mesh_plan plan;
  plan.kind = kind;
  plan.call = call;
  return plan;
}

} // namespace

TEST_CASE("A26: the bytes of mesh plans are these") {
  auto warm_plan = announcement(plan_kind::warm, call_id{1});
  check_golden(warm_plan, "01 0100000000000000");
  auto vote_plan = announcement(plan_kind::vote, call_id{2});
  vote_plan.rooms = {room_id{8}};
  check_golden(vote_plan, "02 0200000000000000 01000000 0800000000000000");
  auto encode_plan = announcement(plan_kind::encode, call_id{3});
  encode_plan.pictures = {
      {.room = room_id{8}, .pixels = slot_index{1}, .height = 28, .width = 56, .rows = slot_index{2}}};
  check_golden(encode_plan, "03 0300000000000000 01000000 0800000000000000 01000000 1c000000 38000000 02000000");
  auto prefill_plan = announcement(plan_kind::prefill, call_id{4});
  prefill_plan.prefill = {.request = request_id{5},
                          .kv_room = room_id{9},
                          .ids = {6},
                          .positions = {{0, 1, 2}},
                          .begin = 16,
                          .last = true,
                          .blocks = {block_index{3}},
                          .pictures = {{.first_token = 1, .tokens = 4, .rows = slot_index{2}}},
                          .decode_cell = cell_id{2},
                          .sampling = {.temperature = 0.5F, .top_p = 0.25F, .seed = 7}};
  check_golden(prefill_plan,
               "04 0400000000000000 0500000000000000 0900000000000000 01000000 06000000 01000000 00000000 01000000 "
               "02000000 10000000 01 01000000 03000000 01000000 01000000 04000000 02000000 02000000 0000003f 0000803e "
               "0700000000000000 " PLAIN_RULES);
  auto decode_plan = announcement(plan_kind::decode, call_id{6});
  decode_plan.decode = {.leaves = {request_id{4}},
                        .joins = {{.request = request_id{5},
                                   .context = 17,
                                   .position_delta = -3,
                                   .blocks = {block_index{3}},
                                   .sampling = {.temperature = 0.5F, .top_p = 0.25F, .seed = 7}}},
                        .ids = {7}};
  check_golden(decode_plan,
               "05 0600000000000000 01000000 0400000000000000 01000000 0500000000000000 11000000 fdffffff 01000000 "
               "03000000 0000003f 0000803e 0700000000000000 01000000 07000000 " PLAIN_RULES);
  decode_plan.decode.joins.push_back(decode_plan.decode.joins.front());
  decode_plan.decode.joins[1].sampling.rules = {.top_k = 2, .bias = {{9, -2.0F}}, .prompt_ids = {7}};
  decode_plan.decode.ids = {7, 8};
  check_golden(decode_plan,
               "05 0600000000000000 01000000 0400000000000000 02000000 0500000000000000 11000000 fdffffff 01000000 "
               "03000000 0000003f 0000803e 0700000000000000 0500000000000000 11000000 fdffffff 01000000 03000000 "
               "0000003f 0000803e 0700000000000000 02000000 07000000 08000000 " PLAIN_RULES
               " 02000000 00000000 00000000 00000000 00000000 01000000 09000000 000000c0 00000000 00000000 00 00 "
               "00000000 01000000 07000000");
  auto stop_plan = announcement(plan_kind::stop, call_id{7});
  check_golden(stop_plan, "06 0700000000000000");
}
