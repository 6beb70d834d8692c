#include "tests/protocols/golden.hpp"

using namespace troupe::protocols;
using troupe::protocols::testing::check_golden;

namespace {

std::array<std::byte, 32> counting_token() {
  std::array<std::byte, 32> token{};
  for (std::size_t i = 0; i < token.size(); ++i)
    token[i] = static_cast<std::byte>(i);
  return token;
}

injection_rule stop_at_p() {
  injection_rule rule;
  rule.point = "p";
  rule.action = drill_action::stop;
  return rule;
}

// Of no rule and no trace.
#define PLAIN_RULES "00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00 00 00000000 00000000 "
#define NO_TRACE "00000000 00000000000000000000000000000000 0000000000000000 "
// Of every rule, and of a trace, as they stand in each message that has them.
#define EVERY_RULE                                                                                                     \
  "03000000 0000803d 0000003f 000080be 0000c03f 01000000 09000000 000000c0 02000000 01000000 04000000 01 01 05000000 " \
  "02000000 01000000 07000000 "
#define COUNTING_TRACE "02000000 6162 000102030405060708090a0b0c0d0e0f 1011121314151617 "

sampling_options every_rule() {
  return {.temperature = 0.5F,
          .top_p = 0.25F,
          .seed = 7,
          .rules = {.top_k = 3,
                    .min_p = 0.0625F,
                    .presence_penalty = 0.5F,
                    .frequency_penalty = -0.25F,
                    .repetition_penalty = 1.5F,
                    .bias = {{9, -2.0F}},
                    .min_tokens = 2,
                    .stop_ids = {4},
                    .ignore_eos = true,
                    .logprobs = true,
                    .top_logprobs = 5,
                    .prompt_ids = {1, 7}}};
}

request_trace counting_trace() {
  request_trace of{.name = "ab"};
  for (std::uint8_t i = 0; i < 16; ++i)
    of.trace[i] = i;
  for (std::uint8_t i = 0; i < 8; ++i)
    of.parent[i] = static_cast<std::uint8_t>(16 + i);
  return of;
}

} // namespace

TEST_CASE("A26: the bytes of life messages are these") {
  check_golden(hello{.shown = counting_token(),
                     .nonce = {std::byte{0xa1}, std::byte{0xa2}},
                     .channel = channel_kind::group,
                     .group = group_id{2},
                     .build = "b1",
                     .capabilities = {"x"}},
               "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f "
               "a1a20000000000000000000000000000 02 02000000 02000000 6231 01000000 01000000 78");
  check_golden(welcome{.shown = counting_token(), .capabilities = {"x", "yz"}},
               "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 02000000 01000000 78 02000000 797a");
  check_golden(refuse{.code = 13, .message = "no"}, "0d00 02000000 6e6f");
  check_golden(joined{.at = {.rank = rank_id{3},
                             .born = generation{1},
                             .unix_path = "/run/r3",
                             .tcp_address = "127.0.0.1",
                             .tcp_port = 0x1234,
                             .fabric_address = {std::byte{0xaa}, std::byte{0xbb}}},
                      .pid = 99,
                      .device = "cuda:1",
                      .http = "[::1]:80"},
               "03000000 01000000 07000000 2f72756e2f7233 09000000 3132372e302e302e31 3412 02000000 aabb 63000000 "
               "06000000 637564613a31 08000000 5b3a3a315d3a3830");
  check_golden(roster{.ranks = {{.rank = rank_id{3},
                                 .born = generation{1},
                                 .unix_path = "/run/r3",
                                 .tcp_address = "127.0.0.1",
                                 .tcp_port = 0x1234,
                                 .fabric_address = {std::byte{0xaa}, std::byte{0xbb}}}}},
               "01000000 03000000 01000000 07000000 2f72756e2f7233 09000000 3132372e302e302e31 3412 02000000 aabb");
  check_golden(agree{.facts = {{"build", "a"}, {"spec", "b"}}},
               "02000000 05000000 6275696c64 01000000 61 04000000 73706563 01000000 62");
  check_golden(verdict{.agreed = true, .difference = "d"}, "01 01000000 64");
  check_golden(proceed{.next = life_state::warm}, "04");
  check_golden(progress{.state = life_state::grouped, .detail = "mesh"}, "03 04000000 6d657368");
  check_golden(leave{.reason = "done"}, "04000000 646f6e65");
  check_golden(
      region{.purpose = "kv", .card = {.region = 1, .bytes = 4096, .slot_bytes = 64, .base = 0x1000, .key = 0xfeed}},
      "02000000 6b76 01000000 0010000000000000 4000000000000000 0010000000000000 edfe000000000000");
  check_golden(launch{.job_token = counting_token(),
                      .job = "j",
                      .run_directory = "/r",
                      .spec_json = "{}",
                      .born = generation{1},
                      .drills = 1,
                      .rules = {stop_at_p()},
                      .epoch = cache_epoch{5}},
               "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 01000000 6a 02000000 2f72 02000000 "
               "7b7d 01000000 01000000 01000000 01000000 70 02 00000000 01000000 00000000 ffffffff 00 0000 00000000 "
               "00000000 0500000000000000");
  check_golden(lost{.ranks = {rank_id{3}, rank_id{4}}, .next = generation{2}, .cause = "c", .epoch = cache_epoch{5}},
               "02000000 03000000 04000000 02000000 01000000 63 0500000000000000");
  check_golden(rejoin{.ranks = {{.rank = rank_id{3},
                                 .born = generation{2},
                                 .unix_path = "/run/r3",
                                 .tcp_address = "",
                                 .tcp_port = 0,
                                 .fabric_address = {}}}},
               "01000000 03000000 02000000 07000000 2f72756e2f7233 00000000 0000 00000000");
  check_golden(rejoined{.born = generation{2}, .begun = 1}, "02000000"
                                                            "01000000");
  check_golden(recovered{.ranks = {rank_id{3}}}, "01000000 03000000");
  check_golden(counters{.state = life_state::ready,
                        .activity = rank_activity::waits_for_peer,
                        .progress = 258,
                        .view_taken = 7,
                        .values = {{metric_number{34}, about_nobody, 5}},
                        .histograms = {{metric_number{40}, 9, {1, 2}}}},
               "05 02 0201000000000000 0700000000000000 01000000 2200 ffffffff 0500000000000000 01000000 2800 "
               "0900000000000000 02000000 0100000000000000 0200000000000000");
  check_golden(cluster_view{.number = 7,
                            .stage = cluster_stage::recovering,
                            .epoch = cache_epoch{5},
                            .ranks = {{.rank = rank_id{3},
                                       .born = generation{2},
                                       .state = life_state::ready,
                                       .trouble = seen_trouble::still,
                                       .activity = rank_activity::computes,
                                       .progress_age_ms = 16,
                                       .still_ms = 15,
                                       .restarts = 1,
                                       .host = "h",
                                       .cause = "c",
                                       .values = {{metric_number{1}, rank_id{4}, 6}},
                                       .histograms = {}}}},
               "0700000000000000 02 0500000000000000 01000000 03000000 02000000 05 01 01 10000000 0f000000 01000000 "
               "01000000 68 01000000 63 01000000 0100 04000000 0600000000000000 00000000");
}

TEST_CASE("A26: the bytes of liveness messages are these") {
  check_golden(heartbeat{.completed = 258, .busy = true}, "0201000000000000 01");
}

TEST_CASE("A26: the bytes of work messages are these") {
  const auto sampling = every_rule();
  check_golden(submit{.request = request_id{5},
                      .prompt = {1, -1},
                      .pictures = {{.room = room_id{8},
                                    .first_token = 1,
                                    .tokens = 4,
                                    .grid = {1, 4, 6},
                                    .content_hash = 0xabcd,
                                    .encode_cell = cell_id{2}}},
                      .sampling = sampling,
                      .kv_room = room_id{9},
                      .decode_cell = cell_id{3},
                      .deadline_ms = 1000,
                      .trace = counting_trace(),
                      .priority = -1},
               "0500000000000000 02000000 01000000 ffffffff 01000000 0800000000000000 01000000 04000000 01000000 "
               "04000000 06000000 cdab000000000000 02000000 0000003f 0000803e 0700000000000000 0900000000000000 "
               "03000000 e8030000 " EVERY_RULE COUNTING_TRACE "ffffffff");
  check_golden(encode{.request = request_id{5},
                      .room = room_id{8},
                      .pixels = {slot_index{1}, generation{2}},
                      .height = 28,
                      .width = 56,
                      .tokens = 2,
                      .content_hash = 0xabcd,
                      .prefill_cell = cell_id{4},
                      .deadline_ms = 1000,
                      .trace = counting_trace()},
               "0500000000000000 0800000000000000 01000000 02000000 1c000000 38000000 02000000 cdab000000000000 "
               "04000000 e8030000 " COUNTING_TRACE);
  check_golden(tokens{.events = {{.request = request_id{5}, .index = 2, .id = 7, .finish = finish_reason::stop}},
                      .logprobs = {{.event = 0, .values = {{7, -0.5F}, {9, -2.0F}}}}},
               "01000000 0500000000000000 02000000 07000000 01 01000000 00000000 02000000 07000000 000000bf 09000000 "
               "000000c0");
  check_golden(timing{.request = request_id{5}, .part = phase::kv, .began_ns = 1, .ended_ns = -2},
               "0500000000000000 06 0100000000000000 feffffffffffffff");
}

TEST_CASE("A26: the bytes of rooms messages are these") {
  check_golden(reserve_kv{.request = request_id{5},
                          .room = room_id{9},
                          .prompt_tokens = 3,
                          .max_tokens = 16,
                          .sampling = every_rule(),
                          .end_tokens = {2},
                          .prefill_cell = cell_id{1},
                          .deadline_ms = 1000,
                          .prompt_digest = 11,
                          .trace = counting_trace(),
                          .priority = 2},
               "0500000000000000 0900000000000000 03000000 10000000 0000003f 0000803e 0700000000000000 01000000 "
               "02000000 01000000 e8030000 0b00000000000000 " EVERY_RULE COUNTING_TRACE "02000000");
  check_golden(reserve_rows{.request = request_id{5},
                            .room = room_id{8},
                            .slot = {slot_index{1}, generation{2}},
                            .tokens = 4,
                            .encode_cell = cell_id{2},
                            .deadline_ms = 1000},
               "0500000000000000 0800000000000000 01000000 02000000 04000000 02000000 e8030000");
  check_golden(reserve_blocks{.request = request_id{5},
                              .room = room_id{9},
                              .prompt_tokens = 17,
                              .blocks = {block_index{3}, block_index{4}},
                              .lease_generation = generation{6},
                              .prefill_cell = cell_id{1},
                              .deadline_ms = 1000},
               "0500000000000000 0900000000000000 11000000 02000000 03000000 04000000 06000000 01000000 e8030000");
  check_golden(grant_rows{.request = request_id{5},
                          .room = room_id{8},
                          .part = 1,
                          .parts = 2,
                          .slot = {slot_index{1}, generation{2}},
                          .first_row = 4,
                          .rows = 8,
                          .row_elements = 64,
                          .dtype = element_type::bf16,
                          .born = generation{3},
                          .valid_ms = 1000},
               "0500000000000000 0800000000000000 01000000 02000000 01000000 02000000 04000000 08000000 40000000 02 "
               "03000000 e8030000");
  check_golden(grant_blocks{.request = request_id{5},
                            .room = room_id{9},
                            .part = 1,
                            .parts = 2,
                            .prompt_tokens = 17,
                            .blocks = {block_index{3}},
                            .lease_generation = generation{6},
                            .dtype = element_type::f32,
                            .born = generation{3},
                            .valid_ms = 1000},
               "0500000000000000 0900000000000000 01000000 02000000 11000000 01000000 03000000 06000000 01 03000000 "
               "e8030000");
  check_golden(
      grant_pixels{.slots = {{slot_index{1}, generation{2}}, {slot_index{3}, generation{4}}}, .born = generation{5}},
      "02000000 01000000 02000000 03000000 04000000 05000000");
  check_golden(arrived{.request = request_id{5}, .room = room_id{8}}, "0500000000000000 0800000000000000");
  check_golden(kv_sent{.request = request_id{5}, .room = room_id{9}, .code = 21, .message = "no"},
               "0500000000000000 0900000000000000 1500 02000000 6e6f");
  check_golden(handover{.request = request_id{5},
                        .room = room_id{9},
                        .first_token = 7,
                        .position_delta = -3,
                        .length = 17,
                        .digest = 0x0123456789abcdef,
                        .logprobs = {{7, -0.5F}}},
               "0500000000000000 0900000000000000 07000000 fdffffff 11000000 efcdab8967452301 01000000 07000000 "
               "000000bf");
  check_golden(release{.request = request_id{5}}, "0500000000000000");
  check_golden(revoke_rows{.request = request_id{5}, .room = room_id{8}}, "0500000000000000 0800000000000000");
  check_golden(revoke_blocks{.request = request_id{5}, .room = room_id{8}}, "0500000000000000 0800000000000000");
  check_golden(pixels_returned{.request = request_id{5}, .room = room_id{8}, .settled = true},
               "0500000000000000 0800000000000000 01");
  check_golden(rows_returned{.request = request_id{5}, .room = room_id{8}, .settled = false},
               "0500000000000000 0800000000000000 00");
  check_golden(blocks_returned{.request = request_id{5}, .room = room_id{8}, .settled = true},
               "0500000000000000 0800000000000000 01");
  check_golden(rows_quiet{.request = request_id{5}}, "0500000000000000");
  check_golden(blocks_quiet{.request = request_id{5}}, "0500000000000000");
}

TEST_CASE("A26: the bytes of ends messages are these") {
  check_golden(shutdown{.drain = false, .reason = "sigterm"}, "00 07000000 7369677465726d");
  check_golden(error{.code = 35,
                     .message = "oom",
                     .origin = rank_id{3},
                     .call = call_id{17},
                     .where = "prefill",
                     .request = request_id{5}},
               "2300 03000000 6f6f6d 03000000 1100000000000000 07000000 70726566696c6c 0500000000000000");
  check_golden(ack{.request = request_id{5}}, "0500000000000000");
  check_golden(nack{.request = request_id{5}, .code = 17, .message = "full"},
               "0500000000000000 1100 04000000 66756c6c");
  check_golden(cancel{.request = request_id{5}, .reason = "gone"}, "0500000000000000 04000000 676f6e65");
}

TEST_CASE("A26: the bytes of clients messages are these") {
  check_golden(ask{.tag = 1,
                   .prompt = "hi",
                   .picture_names = {"a.png"},
                   .picture_bytes = {1000},
                   .max_tokens = 16,
                   .sampling = every_rule(),
                   .draws_seed = true,
                   .timeout_ms = 1000,
                   .priority = 1,
                   .trace = counting_trace()},
               "0100000000000000 02000000 6869 01000000 05000000 612e706e67 01000000 e803000000000000 10000000 "
               "0000003f 0000803e 0700000000000000 " EVERY_RULE "01 e8030000 01000000 " COUNTING_TRACE
               "00000000 00 00000000 00000000");
  check_golden(ask{.tag = 1,
                   .prompt = {},
                   .picture_names = {"a.png"},
                   .picture_bytes = {1000},
                   .max_tokens = 16,
                   .sampling = {.temperature = 0.5F, .top_p = 0.25F, .seed = 7},
                   .said = {.messages = {{.role = "user",
                                          .content = {{.is = chat_part_kind::picture, .text = {}},
                                                      {.is = chat_part_kind::text, .text = "hi"}},
                                          .in_parts = true,
                                          .name = "a",
                                          .reasoning_content = "b",
                                          .more = "{}"}},
                            .no_generation_prompt = true,
                            .template_arguments = "{}",
                            .tools = "[]"}},
               "0100000000000000 00000000 01000000 05000000 612e706e67 01000000 e803000000000000 10000000 "
               "0000003f 0000803e 0700000000000000 " PLAIN_RULES "00 00000000 00000000 " NO_TRACE
               "01000000 04000000 75736572 02000000 01 00000000 00 02000000 6869 "
               "01 01000000 61 01000000 62 02000000 7b7d 01 02000000 7b7d 02000000 5b5d");
  check_golden(picture_chunk{.tag = 1, .picture = 2, .bytes = {std::byte{0xde}, std::byte{0xad}}},
               "0100000000000000 02000000 02000000 dead");
  check_golden(accepted{.tag = 1, .request = request_id{5}, .prompt_tokens = 3, .seed = 7, .max_tokens = 16},
               "0100000000000000 0500000000000000 03000000 0700000000000000 10000000");
  check_golden(
      answer{
          .tag = 1, .index = 2, .id = 7, .text = "\xc3\xa9", .logprobs = {{.id = 7, .value = -0.5F, .bytes = "\xa9"}}},
      "0100000000000000 02000000 07000000 02000000 c3a9 01000000 07000000 000000bf 01000000 a9");
  check_golden(finished{.tag = 1,
                        .reason = finish_reason::length,
                        .message = {},
                        .time_to_first_token_ns = 10,
                        .total_ns = 20,
                        .phases = {{.part = phase::decode, .began_ns = 11, .ended_ns = 20}},
                        .text = "\xef\xbf\xbd",
                        .prompt_tokens = 3,
                        .answer_tokens = 16},
               "0100000000000000 02 00000000 0a00000000000000 1400000000000000 01000000 07 0b00000000000000 "
               "1400000000000000 03000000 efbfbd 03000000 10000000");
  check_golden(refused{.tag = 1, .code = 31, .message = "gif"}, "0100000000000000 1f00 03000000 676966");
  check_golden(withdraw{.tag = 7}, "0700000000000000");
}

TEST_CASE("A26: the bytes of drills messages are these") {
  injection_rule rule;
  rule.point = "p";
  rule.action = drill_action::deliver;
  rule.skip = 1;
  rule.times = 2;
  rule.ms = 3;
  rule.peer = rank_id{4};
  rule.channel = 1;
  rule.message = 406;
  rule.source = rank_id{5};
  rule.payload = {std::byte{0xde}, std::byte{0xad}};
  check_golden(inject{.rank = rank_id{6}, .rule = rule},
               "06000000 01000000 70 3c 01000000 02000000 03000000 04000000 01 9601 05000000 02000000 dead");
  check_golden(injected{.code = 26, .message = "no"}, "1a00 02000000 6e6f");
}
