#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/roles.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "protocols/serve/prompt_digest.hpp"
#include "serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

front_machine::options bounds() {
  return {.in_flight_max = 2,
          .context_max = 64,
          .kv_tokens_max = 64,
          .row_slots = 4,
          .pixel_slots = 1,
          .staging_slots = 2,
          .picture_tokens_max = 16,
          .vocabulary = 1000,
          .end_tokens = {9},
          .request_deadline = 10s,
          .ack_deadline = 1h,
          .quiet_after = 1h,
          .drain_deadline = 3s};
}

front_machine::request text(std::uint64_t id, std::uint32_t max_tokens = 8) {
  return {.id = request_id{id},
          .prompt = {1, 2, 3},
          .pictures = {},
          .sampling = {},
          .max_tokens = max_tokens,
          .asked = at(0ms)};
}

front_machine::request with_picture(std::uint64_t id, std::uint64_t hash = 0) {
  auto one = text(id);
  one.prompt = {1, 7, 7, 2};
  one.pictures = {{.height = 32, .width = 64, .tokens = 2, .first_token = 1, .grid = {1, 2, 4}, .content_hash = hash}};
  return one;
}

tokens one_token(std::uint64_t request, std::uint32_t index, finish_reason finish = finish_reason::none) {
  return {{{request_id{request}, index, static_cast<token_id>(100 + index), finish}}};
}

/// Every write of pixels among the effects is delivered, on each rank of its cell.
void deliver_pixels(front_machine& front, const cluster_plan& plan, const front_machine::effects& effects,
                    time_point now) {
  for (const auto& write : only<front_machine::write_pixels>(effects))
    for (std::size_t i = 0; i < plan.cell(write.encode_cell).ranks.size(); ++i)
      (void)front.on_pixels_written(write.room, front_machine::write_end::delivered, {}, now);
}

grant_pixels credit(std::uint32_t slot, std::uint32_t lease_generation = 1) {
  grant_pixels one;
  one.slots = {{slot_index{slot}, generation{lease_generation}}};
  return one;
}

error said_by(std::string where, std::uint64_t attempt, fault code) {
  return {.code = static_cast<std::uint16_t>(code),
          .message = "write",
          .origin = prefill_leader,
          .call = {},
          .where = std::move(where),
          .request = request_id{attempt}};
}

} // namespace

TEST_CASE("a text request goes to decode for room and to prefill for work") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};

  const auto effects = front.on_request(text(1), at(0ms)).value();

  const auto rooms = sent<reserve_kv>(effects);
  const auto work = sent<submit>(effects);
  REQUIRE(rooms.size() == 1);
  REQUIRE(work.size() == 1);
  CHECK(rooms[0].first == decode_rank);
  CHECK(work[0].first == prefill_leader);
  CHECK(rooms[0].second.room == work[0].second.kv_room);
  CHECK(rooms[0].second.prompt_tokens == 3);
  CHECK(rooms[0].second.end_tokens == std::vector<token_id>{9});
  CHECK(rooms[0].second.prompt_digest == prompt_digest(work[0].second.prompt)); // F6
}

TEST_CASE("E3, K16: a picture waits for a pixel slot, and pictures behind it, while text needs none and passes") {
  const auto plan = reader_plan();
  auto wide = bounds();
  wide.in_flight_max = 4;
  front_machine front{plan, wide};

  CHECK(front.on_request(with_picture(1), at(0ms)).value().empty());
  CHECK(sent<submit>(front.on_request(text(2), at(0ms)).value()).size() == 1);
  CHECK(front.on_request(with_picture(3), at(0ms)).value().empty());
  CHECK(front.waiting() == 2);

  const auto effects = front.on_pixel_credits(encode_rank, credit(0), at(1ms));
  const auto pixels = only<front_machine::write_pixels>(effects);
  REQUIRE(pixels.size() == 1);
  CHECK(pixels[0].request == request_id{1}); // the slot is that of the one that was passed
  CHECK(sent<encode>(effects)[0].second.room == pixels[0].room);
  CHECK(sent<submit>(effects).size() == 1);
  CHECK(front.audit() == "");
}

TEST_CASE("K16: a picture that needs fewer slots than the one before it does not pass it") {
  const auto plan = reader_plan();
  auto wide = bounds();
  wide.in_flight_max = 4;
  front_machine front{plan, wide};
  auto two = with_picture(1);
  two.prompt = {1, 7, 7, 7, 7, 2};
  two.pictures.push_back(two.pictures.front());
  two.pictures.back().first_token = 3;
  CHECK(front.on_request(two, at(0ms)).value().empty());
  CHECK(front.on_request(with_picture(2), at(0ms)).value().empty());

  CHECK(front.on_pixel_credits(encode_rank, credit(0), at(1ms)).empty()); // which the second would start with
  const auto pixels = only<front_machine::write_pixels>(front.on_pixel_credits(rank_id{2}, credit(0), at(2ms)));
  REQUIRE(pixels.size() == 2);
  CHECK(pixels[0].request == request_id{1});
  CHECK(pixels[1].request == request_id{1});
  CHECK(front.audit() == "");
}

TEST_CASE("K16: text passes a picture whose encode cell is being restarted, and a request that pauses before its next "
          "attempt") {
  const auto plan = reader_plan();
  auto wide = bounds();
  wide.in_flight_max = 4;
  front_machine front{plan, wide};
  SUBCASE("restarting") {
    (void)front.on_lost({{rank_id{1}, rank_id{2}}, generation{2}, "killed"}, at(0ms));
    CHECK(front.on_request(with_picture(1), at(0ms)).value().empty());
    CHECK(sent<submit>(front.on_request(text(2), at(0ms)).value()).size() == 1);
  }
  SUBCASE("pausing") {
    (void)front.on_request(text(1), at(0ms));
    CHECK(sent<submit>(front.on_error(prefill_leader, said_by("prefill", 1, fault::timeout), at(1ms))).empty());
    CHECK(sent<submit>(front.on_request(text(2), at(2ms)).value()).size() == 1);
    const auto again = sent<submit>(front.on_tick(at(1ms) + limits::retry_pause));
    REQUIRE(again.size() == 1);
    CHECK(front.request_of(again[0].second.request) == request_id{1});
  }
}

TEST_CASE(
    "K16: a request starts with all that it needs and with nothing less, and nobody passes one that lacks what all "
    "need") {
  const auto plan = reader_plan();
  auto wide = bounds();
  wide.in_flight_max = 8;
  wide.staging_slots = 8;
  wide.pixel_slots = 8;
  SUBCASE("KV blocks of decode: 4 blocks, of which each takes 2 or 3") {
    front_machine front{plan, wide};
    CHECK(sent<submit>(front.on_request(text(1, 29), at(0ms)).value()).size() == 1); // 32 tokens
    CHECK(sent<submit>(front.on_request(text(2, 45), at(0ms)).value()).empty());     // 48 tokens
    CHECK(sent<submit>(front.on_request(text(3, 1), at(0ms)).value()).empty());      // would fit, and waits its turn
    const auto freed = front.on_tokens(decode_rank, one_token(1, 0, finish_reason::stop), at(1ms));
    CHECK(sent<submit>(freed).size() == 2);
    CHECK(front.audit() == "");
  }
  SUBCASE("KV blocks of prefill: its own, until the first token") {
    front_machine front{plan, wide};
    auto large = text(1, 1);
    large.prompt.assign(60, 1);
    CHECK(sent<submit>(front.on_request(large, at(0ms)).value()).size() == 1);
    CHECK(sent<submit>(front.on_request(text(2, 1), at(0ms)).value()).empty());
    (void)front.on_tokens(decode_rank, one_token(1, 0, finish_reason::length), at(1ms));
    CHECK(front.in_flight() == 1);
  }
  SUBCASE("row slots of prefill") {
    wide.row_slots = 1;
    front_machine front{plan, wide};
    for (std::uint32_t slot = 0; slot < 4; ++slot)
      (void)front.on_pixel_credits(encode_rank, credit(slot), at(0ms));
    CHECK(sent<submit>(front.on_request(with_picture(1), at(0ms)).value()).size() == 1);
    CHECK(sent<submit>(front.on_request(with_picture(2), at(0ms)).value()).empty());
    CHECK(sent<submit>(front.on_request(text(3), at(0ms)).value()).size() == 1); // needs no row slot
    const auto next = sent<submit>(front.on_tokens(decode_rank, one_token(1, 0), at(1ms)));
    REQUIRE(next.size() == 1);
    CHECK(front.request_of(next[0].second.request) == request_id{2});
  }
}

TEST_CASE("K16: each order carries what is left of the request's own time, counted from the question's first frame") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  auto late = with_picture(1);
  late.asked = at(1s);
  CHECK(front.on_request(late, at(4s)).value().empty());
  const auto orders = front.on_pixel_credits(encode_rank, credit(0), at(5s));
  CHECK(sent<submit>(orders).at(0).second.deadline_ms == 6000);
  CHECK(sent<reserve_kv>(orders).at(0).second.deadline_ms == 6000);
  CHECK(sent<encode>(orders).at(0).second.deadline_ms == 6000);
  CHECK(only<front_machine::end_request>(front.on_tick(at(10'999ms))).empty());
  CHECK(only<front_machine::end_request>(front.on_tick(at(11s))).size() == 1);
}

TEST_CASE("I27, K3: a write whose end is told late delays the next picture and ends nothing") {
  const auto plan = reader_plan();
  auto one_slot = bounds();
  one_slot.staging_slots = 1;
  front_machine front{plan, one_slot};
  (void)front.on_pixel_credits(encode_rank, credit(0), at(0ms));
  const auto first = only<front_machine::write_pixels>(front.on_request(with_picture(1), at(0ms)).value());
  REQUIRE(first.size() == 1);

  // The cell has read the picture and gives its slot back; the write's own end is not told yet.
  CHECK(front.on_pixel_credits(encode_rank, credit(0, 2), at(1ms)).empty());
  CHECK(only<front_machine::write_pixels>(front.on_request(with_picture(2), at(1ms)).value()).empty());
  (void)front.on_tokens(decode_rank, one_token(1, 0, finish_reason::stop), at(2ms));
  CHECK(front.waiting() == 1);
  CHECK(front.audit() == "");

  const auto next = front.on_pixels_written(first[0].room, front_machine::write_end::delivered, {}, at(3ms));
  CHECK(only<front_machine::write_pixels>(next).size() == 1);
  CHECK(front.audit() == "");
}

TEST_CASE("I24, K3: the staging slot of a failed write rests where the write may still read it, and nowhere else") {
  const auto plan = reader_plan();
  auto one_slot = bounds();
  one_slot.staging_slots = 1;
  one_slot.request_deadline = 1h;
  bool rests = false;
  auto how = front_machine::write_end::failed;
  auto cause = fault::transfer_failed;
  SUBCASE("a network card may still read it") {
    rests = true;
  }
  SUBCASE("its target is gone") {
    cause = fault::peer_gone;
  }
  SUBCASE("it was never begun") {
    how = front_machine::write_end::refused;
  }
  front_machine front{plan, one_slot};
  (void)front.on_pixel_credits(encode_rank, credit(0), at(0ms));
  const auto write = only<front_machine::write_pixels>(front.on_request(with_picture(1), at(0ms)).value()).at(0);
  (void)front.on_pixel_credits(encode_rank, credit(0, 2), at(0ms));

  (void)front.on_pixels_written(write.room, how, {cause, "pixels"}, at(1ms));

  CHECK(front.audit() == "");
  const auto again = only<front_machine::write_pixels>(front.on_tick(at(1ms) + limits::retry_pause));
  CHECK(again.size() == (rests ? 0 : 1));
  std::vector<front_machine::write_pixels> rested;
  for (auto now = at(1ms) + limits::retry_pause; now <= at(2s) + limits::slot_quarantine; now += 400ms)
    for (const auto& begun : only<front_machine::write_pixels>(front.on_tick(now)))
      rested.push_back(begun);
  CHECK(rested.size() == (rests ? 1 : 0));
  CHECK(front.audit() == "");
}

TEST_CASE(
    "K2: the encode cell of an attempt that has ended hears when nothing more is written for it, and whether all has "
    "settled") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_pixel_credits(encode_rank, credit(0), at(0ms));
  const auto write = only<front_machine::write_pixels>(front.on_request(with_picture(1), at(0ms)).value()).at(0);
  const auto end_write = [&](front_machine::write_end how, fault code) {
    return sent<pixels_returned>(front.on_pixels_written(write.room, how, {code, "pixels"}, at(2ms)));
  };
  const auto word = [&](bool settled) { return pixels_returned{request_id{1}, write.room, settled}; };
  const auto told = [&](const auto& sent_words, bool settled) {
    return sent_words.size() == 1 && sent_words[0].first == encode_rank && sent_words[0].second == word(settled);
  };
  SUBCASE("cancelled while the write is under way") {
    CHECK(sent<pixels_returned>(front.on_cancel(request_id{1}, at(1ms))).empty());
    SUBCASE("delivered") {
      CHECK(told(end_write(front_machine::write_end::delivered, fault::timeout), true));
    }
    SUBCASE("refused") {
      CHECK(told(end_write(front_machine::write_end::refused, fault::queue_full), true));
    }
    SUBCASE("failed") {
      CHECK(told(end_write(front_machine::write_end::failed, fault::timeout), false));
    }
    SUBCASE("its generation is gone meanwhile: there is nobody to tell") {
      (void)front.on_lost({{encode_rank}, generation{2}, "killed"}, at(1ms));
      CHECK(end_write(front_machine::write_end::failed, fault::peer_gone).empty());
    }
  }
  SUBCASE("cancelled after the write has ended") {
    CHECK(end_write(front_machine::write_end::delivered, fault::timeout).empty());
    const auto end = front.on_cancel(request_id{1}, at(3ms));
    CHECK(told(sent<pixels_returned>(end), true));
    // After the cancel, which makes the cell wait for the word.
    const auto messages = only<send_message>(end);
    CHECK(std::holds_alternative<pixels_returned>(messages.back().body));
  }
  SUBCASE("the failed write itself ends the attempt") {
    CHECK(told(end_write(front_machine::write_end::failed, fault::transfer_failed), false));
  }
  SUBCASE("answered: the cell has given the slot back itself") {
    (void)front.on_tokens(decode_rank, one_token(1, 0), at(1ms));
    CHECK(end_write(front_machine::write_end::delivered, fault::timeout).empty());
    CHECK(sent<pixels_returned>(front.on_cancel(request_id{1}, at(3ms))).empty());
  }
  CHECK(front.audit() == "");
}

TEST_CASE("a pixel slot that is granted anew by the next generation counts once") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_pixel_credits(encode_rank, credit(0, 5), at(0ms));
  (void)front.on_pixel_credits(encode_rank, credit(0, 1), at(0ms));
  (void)front.on_pixel_credits(encode_rank, credit(7, 1), at(0ms)); // no such slot
  CHECK(front.audit() == "");
  const auto write = only<front_machine::write_pixels>(front.on_request(with_picture(1), at(0ms)).value()).at(0);
  CHECK(write.slot == slot_ref{slot_index{0}, generation{1}});
  CHECK(only<front_machine::write_pixels>(front.on_request(with_picture(2), at(0ms)).value()).empty());
}

TEST_CASE("C46, D11: only a rank with a part in the attempt can fail it, and from the first token on only decode") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));
  SUBCASE("a cell that has no part") {
    CHECK(front.on_error(encode_rank, said_by("encode", 1, fault::executor_failed), at(1ms)).empty());
    CHECK(front.errors_ignored() == 1);
  }
  SUBCASE("prefill, before the first token") {
    CHECK(only<front_machine::end_request>(
              front.on_error(prefill_worker, said_by("message", 1, fault::bad_value), at(1ms)))
              .size() == 1);
  }
  SUBCASE("prefill, after it: the answer goes on") {
    (void)front.on_tokens(decode_rank, one_token(1, 0), at(1ms));
    CHECK(front.on_error(prefill_leader, said_by("prefill", 1, fault::transfer_failed), at(2ms)).empty());
    CHECK(front.errors_ignored() == 1);
    CHECK(only<front_machine::emit_token>(front.on_tokens(decode_rank, one_token(1, 1), at(3ms))).size() == 1);
    CHECK(only<front_machine::end_request>(
              front.on_error(decode_rank, said_by("decode", 1, fault::executor_failed), at(4ms)))
              .size() == 1);
  }
}

TEST_CASE("C46: where one rank has every role, what its prefill says late does not end an answer") {
  cluster_spec spec;
  spec.name = "one";
  spec.pools = {{"one", serve_role::all, 1, 1, 1}};
  const auto plan = make_plan(spec).value();
  front_machine front{plan, bounds()};
  const rank_id only_rank{0};
  (void)front.on_request(text(1), at(0ms));
  (void)front.on_tokens(only_rank, one_token(1, 0), at(1ms));
  CHECK(front.on_error(only_rank, said_by("prefill", 1, fault::transfer_failed), at(2ms)).empty());
  CHECK(
      only<front_machine::end_request>(front.on_error(only_rank, said_by("decode", 1, fault::executor_failed), at(3ms)))
          .size() == 1);
}

TEST_CASE("D6: a role whose queue is full is asked again") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));
  CHECK(only<front_machine::end_request>(
            front.on_error(prefill_leader, said_by("prefill", 1, fault::queue_full), at(1ms)))
            .empty());
  CHECK(sent<submit>(front.on_tick(at(1ms) + limits::retry_pause)).size() == 1);
}

TEST_CASE(
    "C40: a flood before the encode cells have granted a slot is served as their slots come, in any order of cells") {
  const auto plan = reader_plan();
  for (const auto first : {rank_id{1}, rank_id{2}}) {
    auto wide = bounds();
    wide.in_flight_max = 4;
    wide.row_slots = 8;
    front_machine front{plan, wide};
    auto pair = with_picture(1);
    pair.prompt = {1, 7, 7, 2, 7, 7};
    pair.pictures.push_back(pair.pictures[0]);
    pair.pictures[1].first_token = 4;
    CHECK(front.on_request(pair, at(0ms)).value().empty());
    for (std::uint64_t id = 2; id <= 4; ++id)
      CHECK(front.on_request(with_picture(id, id), at(0ms)).value().empty());

    std::size_t started = 0;
    const auto second = first == rank_id{1} ? rank_id{2} : rank_id{1};
    for (std::uint32_t round = 1; round <= 4 && started < 4; ++round)
      for (const auto cell : {first, second}) {
        const auto effects = front.on_pixel_credits(cell, credit(0, round), at(1ms));
        started += sent<submit>(effects).size();
        deliver_pixels(front, plan, effects, at(1ms));
      }
    CHECK(started == 4);
    CHECK(front.waiting() == 0);
  }
}

TEST_CASE("a picture goes to the cell that its content names while that has a slot") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_pixel_credits(rank_id{1}, {{{slot_index{0}, generation{1}}}}, at(0ms));
  (void)front.on_pixel_credits(rank_id{2}, {{{slot_index{0}, generation{1}}}}, at(0ms));

  const auto first = sent<encode>(front.on_request(with_picture(1, 1), at(0ms)).value());
  const auto second = sent<encode>(front.on_request(with_picture(2, 1), at(0ms)).value());

  CHECK(first.at(0).first == rank_id{2});
  CHECK(second.at(0).first == rank_id{1}); // the named cell has no slot left
}

TEST_CASE("D5, D8, D16: a token that comes twice is emitted once") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));

  CHECK(only<front_machine::emit_token>(front.on_tokens(decode_rank, one_token(1, 0), at(1ms))).size() == 1);
  CHECK(front.on_tokens(decode_rank, one_token(1, 0), at(2ms)).empty());
  CHECK(only<front_machine::emit_token>(front.on_tokens(decode_rank, one_token(1, 1), at(3ms))).size() == 1);
}

TEST_CASE("D18: a lost token ends the request and everybody lets go") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));

  const auto effects = front.on_tokens(decode_rank, one_token(1, 1), at(1ms));

  const auto ends = only<front_machine::end_request>(effects);
  REQUIRE(ends.size() == 1);
  CHECK(ends[0].reason == finish_reason::failed);
  CHECK(ends[0].cause->code == fault::wrong_sequence);
  CHECK(only<front_machine::emit_token>(effects).empty());
  CHECK(sent<cancel>(effects).size() == 2); // prefill and decode
}

TEST_CASE("D11: what comes after the end is dropped, also from a rank that never had the request") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));
  (void)front.on_request(text(2), at(0ms));

  CHECK(front.on_tokens(encode_rank, one_token(2, 0), at(1ms)).empty());
  const auto last = front.on_tokens(decode_rank, one_token(1, 0, finish_reason::stop), at(1ms));
  CHECK(only<front_machine::end_request>(last).size() == 1);
  CHECK(sent<cancel>(last).empty());
  CHECK(front.on_tokens(decode_rank, one_token(1, 1), at(2ms)).empty());
}

TEST_CASE("C37: what has ended is remembered, so much of it and no more, and the oldest is forgotten first") {
  tombstones ended;
  for (std::uint64_t id = 1; id <= tombstones::kept_max; ++id)
    ended.retire(id);
  ended.retire(1); // once is enough
  CHECK(ended.retired(1));
  ended.retire(tombstones::kept_max + 1);
  CHECK_FALSE(ended.retired(1));
  CHECK(ended.retired(2));
  CHECK(ended.retired(tombstones::kept_max + 1));
}

TEST_CASE("what can never be served is refused at once, with what would be valid") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};

  CHECK(front.on_request(text(1, 62), at(0ms)).error().code == fault::context_exceeded);
  auto many = with_picture(1);
  many.prompt.assign(16, 7);
  many.pictures.assign(3, many.pictures[0]); // two cells of one slot each
  CHECK(front.on_request(many, at(0ms)).error().code == fault::invalid_request);
  auto outside = with_picture(1);
  for (const auto first : {3u, 0xffff'ffffu, 0xffff'fffeu}) {
    outside.pictures[0].first_token = first;
    CHECK(front.on_request(outside, at(0ms)).error().code == fault::invalid_request);
  }
  CHECK(front.in_flight() == 0);
}

TEST_CASE("a request that states no max_tokens gets what context and pools have room for") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  const auto taken = front.on_request(text(1, 0), at(0ms));
  REQUIRE(taken);
  const auto order = sent<reserve_kv>(*taken).at(0).second;
  CHECK(order.max_tokens == front.answer_room(3));
  CHECK(order.max_tokens + 3 == 64);

  auto full = text(2, 0);
  full.prompt.assign(64, 1);
  CHECK(front.on_request(full, at(0ms)).error().what == "64 prompt tokens and 1 for the answer; at most 64 together");
}

TEST_CASE("what ends an answer is decided here: the model's end tokens unless they are ignored, and the client's") {
  const auto plan = reader_plan();
  struct expectation {
    sampling_rules rules;
    std::vector<token_id> ends;
    std::vector<token_id> left_out;
  };
  for (const auto& [rules, ends, left_out] : {expectation{{}, {9}, {}}, expectation{{.stop_ids = {4, 9}}, {4, 9}, {}},
                                              expectation{{.stop_ids = {4}, .ignore_eos = true}, {4}, {}},
                                              expectation{{.min_tokens = 2, .stop_ids = {4}}, {4, 9}, {4, 9}},
                                              expectation{{.min_tokens = 2, .ignore_eos = true}, {}, {}}}) {
    front_machine front{plan, bounds()};
    auto wanted = text(1);
    wanted.sampling.rules = rules;
    const auto taken = front.on_request(wanted, at(0ms));
    REQUIRE(taken);
    const auto reserved = sent<reserve_kv>(*taken).at(0).second;
    CHECK(reserved.end_tokens == ends);
    CHECK(reserved.sampling.rules.stop_ids == left_out);
    CHECK(sent<submit>(*taken).at(0).second.sampling.rules.stop_ids == left_out); // the first token too
  }
}

TEST_CASE("a decode cell is told of the prompt where a penalty counts its tokens") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  auto wanted = text(1);
  wanted.prompt = {5, 1, 5, 3};
  wanted.sampling.rules.repetition_penalty = 1.25F;
  wanted.sampling.rules.prompt_ids = {7}; // a client's word is not used
  wanted.trace.name = "abc";
  wanted.priority = 3;
  const auto taken = front.on_request(wanted, at(0ms));
  REQUIRE(taken);
  const auto reserved = sent<reserve_kv>(*taken).at(0).second;
  const auto submitted = sent<submit>(*taken).at(0).second;
  CHECK(reserved.sampling.rules.prompt_ids == std::vector<token_id>{1, 3, 5});
  CHECK(submitted.sampling.rules.prompt_ids.empty());
  CHECK(submitted.sampling.rules.repetition_penalty == 1.25F);
  CHECK(submitted.trace.name == "abc");
  CHECK(reserved.trace.name == "abc");
  CHECK(submitted.priority == 3);
  CHECK(reserved.priority == 3);
}

TEST_CASE("K16: a request's own timeout ends it by name, and is never longer than what all have") {
  const auto plan = reader_plan();
  for (const std::uint32_t timeout : {100u, 1'000'000u}) {
    CAPTURE(timeout);
    front_machine front{plan, bounds()};
    auto wanted = text(1);
    wanted.timeout_ms = timeout;
    REQUIRE(front.on_request(wanted, at(0ms)));
    CHECK(only<front_machine::end_request>(front.on_tick(at(99ms))).empty());
    const auto ends = only<front_machine::end_request>(front.on_tick(timeout == 100 ? at(100ms) : at(10s)));
    REQUIRE(ends.size() == 1);
    CHECK(ends[0].cause->what.find(timeout == 100 ? "timeout_ms 100" : "timeouts.request_ms") != std::string::npos);
  }
}

TEST_CASE("K16: what a cell says of a request at its deadline is not the cause of its end") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  auto wanted = text(1);
  wanted.timeout_ms = 100;
  REQUIRE(front.on_request(wanted, at(0ms)));
  const error lease{.code = static_cast<std::uint16_t>(fault::stale_grant),
                    .message = "the lease ended",
                    .origin = decode_rank,
                    .call = {},
                    .where = "decode",
                    .request = request_id{1}};
  const auto ends = only<front_machine::end_request>(front.on_error(decode_rank, lease, at(100ms)));
  REQUIRE(ends.size() == 1);
  CHECK(ends[0].cause->code == fault::timeout);
}

TEST_CASE("log-probabilities and ends go out with their tokens") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  REQUIRE(front.on_request(text(1), at(0ms)));
  auto batch = one_token(1, 0);
  batch.events.push_back({request_id{1}, 1, 101, finish_reason::stop});
  batch.logprobs = {{1, {{101, -0.5F}}}};
  const auto out = only<front_machine::emit_token>(front.on_tokens(decode_rank, batch, at(1ms)));
  REQUIRE(out.size() == 2);
  CHECK(out[0].logprobs.empty());
  CHECK(out[0].finish == finish_reason::none);
  CHECK(out[1].logprobs == std::vector{token_logprob{101, -0.5F}});
  CHECK(out[1].finish == finish_reason::stop);
}

TEST_CASE("sampling that is out of bounds is refused before anything is reserved") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  const auto refuse = [&](auto change) {
    auto wanted = text(1, 8);
    change(wanted);
    const auto taken = front.on_request(wanted, at(0ms));
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == fault::invalid_request);
    return taken.error().what;
  };
  CHECK(refuse([](auto& of) { of.sampling.rules.bias = {{1000, 1.0F}}; }).starts_with("logit_bias names token 1000"));
  CHECK(refuse([](auto& of) { of.sampling.rules.min_tokens = 9; }) == "min_tokens is 9; at most max_tokens, 8");
  CHECK(refuse([](auto& of) { of.trace.name = "\n"; }).find("printable") != std::string::npos);
  CHECK(front.in_flight() == 0);
}

TEST_CASE("a temperature that is no finite number is refused, on the wire as on the command line") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  for (const auto temperature :
       {std::numeric_limits<float>::infinity(), -1.0F, std::numeric_limits<float>::quiet_NaN()}) {
    auto hot = text(1);
    hot.sampling.temperature = temperature;
    const auto taken = front.on_request(hot, at(0ms));
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == fault::invalid_request);
  }
}

TEST_CASE("C39: the queue is bounded: as many wait as may run, the next is refused, and taken when load has dropped") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  for (std::uint64_t id = 1; id <= 4; ++id)
    REQUIRE(front.on_request(text(id), at(0ms)));
  CHECK(front.in_flight() == 2);
  CHECK(front.waiting() == 2);
  CHECK(front.on_request(text(5), at(0ms)).error().code == fault::queue_full);

  for (std::uint64_t attempt = 1; attempt <= 4; ++attempt) // each end lets the next one in
    CHECK(only<front_machine::end_request>(
              front.on_tokens(decode_rank, one_token(attempt, 0, finish_reason::length), at(1ms)))
              .size() == 1);
  CHECK(front.in_flight() == 0);
  CHECK(sent<submit>(front.on_request(text(5), at(2ms)).value()).size() == 1);
}

TEST_CASE("a request past its deadline ends as failed, running or waiting") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));
  (void)front.on_request(with_picture(2), at(0ms));

  CHECK(front.on_tick(at(9999ms)).empty());
  const auto ends = only<front_machine::end_request>(front.on_tick(at(10'000ms)));
  REQUIRE(ends.size() == 2);
  CHECK(ends[0].cause->code == fault::timeout);
}

TEST_CASE("a lost cell ends its requests with the cause and takes no more") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));

  const auto ends =
      only<front_machine::end_request>(front.on_lost({{prefill_worker}, generation{0}, "killed"}, at(1ms)));
  REQUIRE(ends.size() == 1);
  CHECK(ends[0].cause == failure{fault::cell_gone, "killed"});
  const auto later = only<front_machine::end_request>(front.on_request(text(2), at(2ms)).value());
  REQUIRE(later.size() == 1);
  CHECK(later[0].cause->code == fault::cell_gone);
}

TEST_CASE("C24: when all ranks go for one that died, requests that wait are told why, as those that run") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));
  (void)front.on_request(with_picture(2), at(0ms)); // has no slot
  std::vector<rank_id> all;
  for (std::uint32_t rank = 1; rank < plan.ranks.size(); ++rank)
    all.emplace_back(rank);

  const auto ends = only<front_machine::end_request>(
      front.on_lost({all, generation{0}, "rank 5 (decode.0) was killed by signal 9"}, at(1ms)));
  REQUIRE(ends.size() == 2);
  for (const auto& each : ends)
    CHECK(each.cause == failure{fault::cell_gone, "rank 5 (decode.0) was killed by signal 9"});
}

TEST_CASE("C3, C14, K17: a drain refuses what comes, finishes what was accepted, and only then says so, once") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));
  (void)front.on_request(with_picture(2), at(0ms));

  const auto begun = front.on_drain(at(1ms));
  CHECK(begun.empty()); // the second waits for a pixel slot
  CHECK(front.on_request(text(3), at(2ms)).error().code == fault::shutting_down);

  const auto done = front.on_tokens(decode_rank, one_token(1, 0, finish_reason::length), at(3ms));
  CHECK(only<front_machine::drained>(done).empty());
  const auto cut_off =
      front.on_tick(at(1ms + std::chrono::duration_cast<std::chrono::milliseconds>(bounds().drain_deadline)));
  REQUIRE(only<front_machine::end_request>(cut_off).size() == 1);
  CHECK(only<front_machine::end_request>(cut_off)[0].request == request_id{2});
  CHECK(only<front_machine::end_request>(cut_off)[0].cause->code == fault::shutting_down);
  CHECK(only<front_machine::drained>(cut_off).size() == 1);
  CHECK(only<front_machine::drained>(front.on_tick(at(20s))).empty());
}

TEST_CASE("C3: what still runs at the drain's deadline ends as failed, so that the drain ends") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));
  (void)front.on_drain(at(1000ms));
  CHECK(front.on_tick(at(3999ms)).empty());
  const auto effects = front.on_tick(at(4000ms));
  CHECK(only<front_machine::end_request>(effects).at(0).cause->code == fault::shutting_down);
  CHECK(only<front_machine::drained>(effects).size() == 1);
}

TEST_CASE("C46, D1: a request that has said nothing is served anew when its cell is lost, under another id and in its "
          "place") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));
  (void)front.on_request(text(2), at(0ms));
  (void)front.on_request(text(3), at(0ms));

  const auto gone = front.on_lost({{prefill_worker}, generation{2}, "killed"}, at(1ms));
  CHECK(only<front_machine::end_request>(gone).empty());
  CHECK(sent<cancel>(gone).size() == 4); // two attempts, each at prefill and decode
  CHECK(front.in_flight() == 0);
  CHECK(front.waiting() == 3); // for the cell

  const auto back = sent<submit>(front.on_recovered({{prefill_worker}}, at(2ms)));
  REQUIRE(back.size() == 2);
  CHECK(front.request_of(back[0].second.request) == request_id{1});
  CHECK(front.request_of(back[1].second.request) == request_id{2});
  CHECK(back[0].second.request == request_id{3}); // attempts are numbered on

  // D16: what still comes of the first attempt is nobody's
  CHECK(front.on_tokens(decode_rank, one_token(1, 0), at(3ms)).empty());
  CHECK(only<front_machine::emit_token>(front.on_tokens(decode_rank, one_token(3, 0), at(3ms))).at(0).request ==
        request_id{1});
}

TEST_CASE("D7: a request that has said something ends with its decode cell, and outlives the others") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));
  (void)front.on_tokens(decode_rank, one_token(1, 0), at(1ms));

  CHECK(front.on_lost({{prefill_leader, prefill_worker}, generation{2}, "killed"}, at(2ms)).empty());
  const auto gone = front.on_lost({{decode_rank}, generation{3}, "killed"}, at(3ms));

  const auto ends = only<front_machine::end_request>(gone);
  REQUIRE(ends.size() == 1);
  CHECK(ends[0].cause == failure{fault::cell_gone, "killed"});
  CHECK(sent<cancel>(gone).size() == 1); // prefill has nothing of it
}

TEST_CASE("D6: attempts are bounded in number and by the request's deadline") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  const auto fail_attempt = [&](std::uint64_t attempt, std::chrono::milliseconds when) {
    return only<front_machine::end_request>(
        front.on_error(prefill_leader, said_by("prefill", attempt, fault::transfer_failed), at(when)));
  };
  (void)front.on_request(text(1), at(0ms));

  SUBCASE("number") {
    CHECK(fail_attempt(1, 1ms).empty());
    CHECK(front.in_flight() == 0); // by the end of the pause it may be known that a cell has died
    CHECK(sent<submit>(front.on_tick(at(1ms) + limits::retry_pause)).size() == 1);
    CHECK(fail_attempt(2, 1000ms).empty());
    CHECK(sent<submit>(front.on_tick(at(2000ms))).size() == 1);
    CHECK(fail_attempt(3, 3000ms).size() == 1);
  }
  SUBCASE("deadline") {
    CHECK(fail_attempt(1, 10s).size() == 1);
  }
  SUBCASE("a drain repeats nothing") {
    (void)front.on_drain(at(1ms));
    CHECK(fail_attempt(1, 2ms).size() == 1);
  }
}

TEST_CASE("A13: a leader that does not acknowledge in time is slow beyond use, one that has may take its time") {
  const auto plan = reader_plan();
  auto limits = bounds();
  limits.ack_deadline = 2s;
  front_machine front{plan, limits};
  (void)front.on_request(text(1), at(0ms));
  front.on_ack(prefill_leader, {request_id{1}});

  SUBCASE("heard from both") {
    front.on_ack(decode_rank, {request_id{1}});
    CHECK(front.on_tick(at(9999ms)).empty());
  }
  SUBCASE("not from decode: served anew, and in the end failed by name") {
    CHECK(front.on_tick(at(1999ms)).empty());
    CHECK(sent<submit>(front.on_tick(at(2000ms))).size() == 1);
    CHECK(sent<submit>(front.on_tick(at(4000ms))).size() == 1);
    const auto ends = only<front_machine::end_request>(front.on_tick(at(6000ms)));
    REQUIRE(ends.size() == 1);
    CHECK(ends[0].cause->code == fault::timeout);
    CHECK(ends[0].cause->what.find("prefill.0/t0 has not acknowledged") == 0); // of the last attempt nobody had
  }
}

TEST_CASE("C46, A13: a picture whose encode cell stays silent is tried on another, and that cell gets no new ones") {
  const auto plan = reader_plan();
  constexpr rank_id other_encode{2};
  auto limits = bounds();
  limits.in_flight_max = 4;
  limits.staging_slots = 8;
  limits.row_slots = 8;
  limits.pixel_slots = 3;
  limits.quiet_after = 1s;
  front_machine front{plan, limits};
  for (const auto rank : {encode_rank, other_encode})
    for (const auto slot : {0U, 1U, 2U})
      (void)front.on_pixel_credits(rank, credit(slot), at(0ms));
  const auto encoded_by = [](const front_machine::effects& effects) {
    std::vector<rank_id> ranks;
    for (const auto& [to, order] : sent<encode>(effects))
      ranks.push_back(to);
    return ranks;
  };
  const auto started = front.on_request(with_picture(1), at(0ms)).value();
  REQUIRE(encoded_by(started) == std::vector{encode_rank});
  deliver_pixels(front, plan, started, at(0ms));
  for (const auto rank : {prefill_leader, decode_rank})
    front.on_ack(rank, {request_id{1}});
  CHECK(encoded_by(front.on_request(with_picture(2), at(1ms)).value()) == std::vector{encode_rank}); // not yet known
  front.on_ack(other_encode, {request_id{2}});
  for (const auto rank : {encode_rank, prefill_leader, decode_rank})
    front.on_ack(rank, {request_id{2}});

  SUBCASE("what comes later goes elsewhere, and so does what has waited for half of its time") {
    CHECK(front.on_tick(at(1s)).empty());
    CHECK(encoded_by(front.on_request(with_picture(3), at(1s)).value()) == std::vector{other_encode});
    for (const auto rank : {other_encode, prefill_leader, decode_rank})
      front.on_ack(rank, {request_id{3}});
    CHECK(front.on_tick(at(4999ms)).empty());
    const auto again = front.on_tick(at(5s));
    CHECK(encoded_by(again) == std::vector{other_encode});
    CHECK(sent<cancel>(again).size() == 3); // encode.0, prefill, decode
    CHECK(front.audit() == "");
  }
  SUBCASE("one that is heard again gets its pictures again") {
    (void)front.on_tick(at(1s));
    front.on_ack(encode_rank, {request_id{1}});
    (void)front.on_pixel_credits(encode_rank, credit(0, 2), at(2s));
    CHECK(encoded_by(front.on_request(with_picture(3), at(2s)).value()) == std::vector{encode_rank});
    CHECK(front.on_tick(at(5s)).empty());
  }
  SUBCASE("where no other serves it is neither passed over nor left") {
    lost other;
    other.ranks = {other_encode};
    other.next = generation{2};
    other.cause = "killed";
    (void)front.on_lost(other, at(500ms));
    (void)front.on_tick(at(1s));
    CHECK(encoded_by(front.on_request(with_picture(3), at(2s)).value()) == std::vector{encode_rank});
    CHECK(front.on_tick(at(5s)).empty());
  }
  SUBCASE("a request that needs more slots than the others have takes its slots too") {
    (void)front.on_tick(at(1s));
    auto wide = with_picture(3);
    wide.prompt = {1, 7, 7, 7, 7, 7, 7, 7, 7, 2};
    for (const auto first_token : {3U, 5U, 7U}) {
      wide.pictures.push_back(wide.pictures[0]);
      wide.pictures.back().first_token = first_token;
    }
    CHECK(encoded_by(front.on_request(std::move(wide), at(2s)).value()) ==
          std::vector{encode_rank, other_encode, other_encode, other_encode});
  }
}

TEST_CASE("C46, A13: text passes over a prefill cell and a decode cell that stay silent, however little they hold") {
  cluster_spec spec;
  spec.name = "pairs";
  spec.pools = {{"front", serve_role::front, 1, 1, 1},
                {"prefill", serve_role::prefill, 2, 1, 1},
                {"decode", serve_role::decode, 2, 1, 1}};
  const auto plan = make_plan(spec).value();
  constexpr rank_id silent_prefill{1};
  constexpr rank_id silent_decode{3};
  auto limits = bounds();
  limits.in_flight_max = 8;
  limits.quiet_after = 1s;
  front_machine front{plan, limits};
  auto first = front.on_request(text(1), at(0ms)).value();
  REQUIRE(sent<submit>(first).at(0).first == silent_prefill);
  REQUIRE(sent<reserve_kv>(first).at(0).first == silent_decode);
  CHECK(front.on_tick(at(1s)).empty());

  for (const auto id : {2ULL, 3ULL}) {
    const auto later = front.on_request(text(id), at(1s)).value();
    CHECK(sent<submit>(later).at(0).first == rank_id{2});
    CHECK(sent<reserve_kv>(later).at(0).first == rank_id{4});
    front.on_ack(rank_id{2}, {request_id{id}});
    front.on_ack(rank_id{4}, {request_id{id}});
  }
  const auto again = front.on_tick(at(5s));
  CHECK(sent<submit>(again).at(0).first == rank_id{2});
  CHECK(sent<reserve_kv>(again).at(0).first == rank_id{4});
  CHECK(front.audit() == "");
}
