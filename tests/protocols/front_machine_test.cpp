#include "protocols/front_machine.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "protocols/prompt_digest.hpp"
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
          .picture_tokens_max = 16,
          .end_tokens = {9},
          .request_deadline = 10s,
          .ack_deadline = 1h,
          .drain_deadline = 3s,
          .room_deadline_ms = 1000};
}

front_machine::request text(std::uint64_t id, std::uint32_t max_tokens = 8) {
  return {.id = request_id{id}, .prompt = {1, 2, 3}, .pictures = {}, .sampling = {}, .max_tokens = max_tokens};
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

TEST_CASE("E3: a picture waits for a pixel slot, and those behind it wait too") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};

  CHECK(front.on_request(with_picture(1), at(0ms)).value().empty());
  CHECK(front.on_request(text(2), at(0ms)).value().empty());
  CHECK(front.waiting() == 2);

  const auto effects = front.on_pixel_credits(encode_rank, {{{slot_index{0}, generation{1}}}}, at(1ms));
  const auto pixels = only<front_machine::write_pixels>(effects);
  REQUIRE(pixels.size() == 1);
  CHECK(pixels[0].request == request_id{1});
  CHECK(sent<encode>(effects)[0].second.room == pixels[0].room);
  const auto work = sent<submit>(effects);
  REQUIRE(work.size() == 2);
  CHECK(work[0].second.request == request_id{1});
  CHECK(work[1].second.request == request_id{2});
}

TEST_CASE(
    "C40: a flood before the encode cells have granted a slot is served as their slots come, in any order of cells") {
  const auto plan = reader_plan();
  for (const auto first : {rank_id{1}, rank_id{2}}) {
    auto wide = bounds();
    wide.in_flight_max = 4;
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
      for (const auto cell : {first, second})
        started += sent<submit>(front.on_pixel_credits(cell, {{{slot_index{0}, generation{round}}}}, at(1ms))).size();
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
    ended.bury(id);
  ended.bury(1); // once is enough
  CHECK(ended.buried(1));
  ended.bury(tombstones::kept_max + 1);
  CHECK_FALSE(ended.buried(1));
  CHECK(ended.buried(2));
  CHECK(ended.buried(tombstones::kept_max + 1));
}

TEST_CASE("what can never be served is refused at once, with what would be valid") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};

  CHECK(front.on_request(text(1, 62), at(0ms)).error().code == fault::context_exceeded);
  CHECK(front.on_request(text(1, 0), at(0ms)).error().code == fault::invalid_request);
  auto many = with_picture(1);
  many.prompt.assign(16, 7);
  many.pictures.assign(3, many.pictures[0]); // two cells of one slot each
  CHECK(front.on_request(many, at(0ms)).error().code == fault::invalid_request);
  auto outside = with_picture(1);
  outside.pictures[0].first_token = 3;
  CHECK(front.on_request(outside, at(0ms)).error().code == fault::invalid_request);
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

TEST_CASE("C3, C14: a drain refuses what waits and what comes, finishes what runs, and only then says so, once") {
  const auto plan = reader_plan();
  front_machine front{plan, bounds()};
  (void)front.on_request(text(1), at(0ms));
  (void)front.on_request(with_picture(2), at(0ms));

  const auto begun = front.on_drain(at(1ms));
  CHECK(only<front_machine::end_request>(begun).at(0).request == request_id{2});
  CHECK(only<front_machine::drained>(begun).empty());
  CHECK(front.on_request(text(3), at(2ms)).error().code == fault::shutting_down);

  const auto done = front.on_tokens(decode_rank, one_token(1, 0, finish_reason::length), at(3ms));
  CHECK(only<front_machine::drained>(done).size() == 1);
  CHECK(only<front_machine::drained>(front.on_tick(at(4ms))).empty());
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

  const auto back = sent<submit>(front.on_regained({{prefill_worker}}, at(2ms)));
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
  const error broken{.code = static_cast<std::uint16_t>(fault::transfer_failed),
                     .message = "write",
                     .origin = prefill_leader,
                     .call = {},
                     .where = "prefill",
                     .request = {}};
  const auto fail_attempt = [&](std::uint64_t attempt, std::chrono::milliseconds when) {
    auto said = broken;
    said.request = request_id{attempt};
    return only<front_machine::end_request>(front.on_error(prefill_leader, said, at(when)));
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
