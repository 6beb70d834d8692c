#include "protocols/encode_machine.hpp"

#include <doctest/doctest.h>

#include "serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

constexpr cell_id encode_cell{1};
constexpr cell_id prefill_cell{3};
constexpr room_id room{7};

encode_machine::options bounds() {
  return {.front = front_rank,
          .pixel_slots = 2,
          .row_slots = 1,
          .row_elements = 6,
          .row_slot_tokens = 8,
          .room_deadline = 1s,
          .rooms_max = 8};
}

encode order(slot_ref pixels, room_id which = room, std::uint64_t request = 1) {
  return {.request = request_id{request},
          .room = which,
          .pixels = pixels,
          .height = 32,
          .width = 64,
          .tokens = 4,
          .content_hash = 0,
          .prefill_cell = prefill_cell,
          .deadline_ms = 1000};
}

grant_rows grant(std::uint32_t part, room_id which = room) {
  return {.request = request_id{1},
          .room = which,
          .part = part,
          .parts = 2,
          .slot = {slot_index{3}, generation{1}},
          .first_row = 0,
          .rows = 4,
          .row_elements = 6,
          .dtype = element_type::f32};
}

struct fixture {
  cluster_plan plan = reader_plan();
  encode_machine machine{plan, encode_cell, bounds()};
  std::vector<slot_ref> slots = sent<grant_pixels>(machine.start()).at(0).second.slots;
};

} // namespace

TEST_CASE_FIXTURE(fixture, "the front gets a credit for every pixel slot") {
  CHECK(slots.size() == 2);
}

TEST_CASE_FIXTURE(fixture, "I14, I36: order, pixels and grants are parked in whatever order they come") {
  enum class piece { order, pixels, first, second };
  std::vector<piece> sequence{piece::order, piece::pixels, piece::first, piece::second};
  do {
    encode_machine one{plan, encode_cell, bounds()};
    const auto pixels = sent<grant_pixels>(one.start()).at(0).second.slots.at(0);
    std::vector<encode_machine::write_rows> writes;
    bool towered = false;
    const auto take = [&](const encode_machine::effects& effects) {
      for (const auto& write : only<encode_machine::write_rows>(effects))
        writes.push_back(write);
      if (!only<encode_machine::run_tower>(effects).empty()) {
        REQUIRE(!towered);
        towered = true;
        for (const auto& write : only<encode_machine::write_rows>(one.on_encoded(room, at(2ms))))
          writes.push_back(write);
      }
    };
    for (const auto next : sequence)
      switch (next) {
      case piece::order:
        take(one.on_encode(order(pixels), at(1ms)));
        break;
      case piece::pixels:
        take(one.on_pixels(room, 0, at(1ms)));
        break;
      case piece::first:
        take(one.on_grant(prefill_leader, grant(0), at(1ms)));
        break;
      case piece::second:
        take(one.on_grant(prefill_worker, grant(1), at(1ms)));
        break;
      }
    CHECK(towered);
    REQUIRE(writes.size() == 2);
    CHECK(writes[0].to == prefill_leader);
    CHECK(writes[1].to == prefill_worker);
    CHECK(writes[0].target.slot == slot_index{3});
  } while (std::next_permutation(sequence.begin(), sequence.end()));
}

TEST_CASE_FIXTURE(fixture, "I38: nothing is shipped while a receiver has not granted") {
  (void)machine.on_encode(order(slots[0]), at(0ms));
  (void)machine.on_pixels(room, 0, at(0ms));
  (void)machine.on_encoded(room, at(1ms));
  CHECK(only<encode_machine::write_rows>(machine.on_grant(prefill_leader, grant(0), at(2ms))).empty());
}

TEST_CASE_FIXTURE(fixture, "G15, I13, I18, I19: a rank that was told another shape of the room than its mesh fails it, "
                           "and nothing is written") {
  enum class lie { rows, first, width, parts, rank };
  for (const auto which : {lie::rows, lie::first, lie::width, lie::parts, lie::rank}) {
    encode_machine one{plan, encode_cell, bounds()};
    const auto pixels = sent<grant_pixels>(one.start()).at(0).second.slots.at(0);
    (void)one.on_encode(order(pixels), at(0ms));
    (void)one.on_pixels(room, 0, at(0ms));
    (void)one.on_encoded(room, at(1ms));
    auto wrong = grant(1);
    wrong.rows -= which == lie::rows;
    wrong.first_row += which == lie::first;
    wrong.row_elements -= which == lie::width;
    wrong.parts += which == lie::parts;
    (void)one.on_grant(prefill_leader, grant(0), at(2ms));
    const auto effects = one.on_grant(which == lie::rank ? decode_rank : prefill_worker, wrong, at(2ms));
    CHECK(only<encode_machine::write_rows>(effects).empty());
    const auto errors = sent<error>(effects);
    REQUIRE(errors.size() == 1);
    CHECK(errors[0].first == front_rank);
    CHECK(fault_from(errors[0].second.code) == fault::span_mismatch);
  }
}

TEST_CASE_FIXTURE(fixture, "C33, C34, C48: a receiver that never grants fails the room by its deadline") {
  (void)machine.on_encode(order(slots[0]), at(0ms));
  (void)machine.on_pixels(room, 0, at(0ms));
  (void)machine.on_encoded(room, at(1ms));
  CHECK(sent<error>(machine.on_tick(at(999ms))).empty());
  const auto errors = sent<error>(machine.on_tick(at(1000ms)));
  REQUIRE(errors.size() == 1);
  CHECK(fault_from(errors[0].second.code) == fault::timeout);
  CHECK(machine.rooms() == 0);
  CHECK(machine.on_grant(prefill_leader, grant(0), at(1001ms)).empty()); // a tombstone, not a new room
  CHECK(machine.rooms() == 0);
}

TEST_CASE_FIXTURE(fixture, "C33: a room's deadline runs from the first that is heard of it, the order or not") {
  (void)machine.on_grant(prefill_leader, grant(0), at(0ms)); // its order never comes
  CHECK(machine.rooms() == 1);
  (void)machine.on_tick(at(999ms));
  CHECK(machine.rooms() == 1);
  (void)machine.on_tick(at(1000ms));
  CHECK(machine.rooms() == 0);
}

TEST_CASE_FIXTURE(fixture, "E21: a full send ring defers the next tower until a slot is free") {
  (void)machine.on_encode(order(slots[0]), at(0ms));
  CHECK(only<encode_machine::run_tower>(machine.on_pixels(room, 0, at(0ms))).size() == 1);
  (void)machine.on_encode(order(slots[1], room_id{8}, 2), at(0ms));
  CHECK(only<encode_machine::run_tower>(machine.on_pixels(room_id{8}, 0, at(0ms))).empty());

  (void)machine.on_encoded(room, at(1ms));
  (void)machine.on_grant(prefill_leader, grant(0), at(1ms));
  (void)machine.on_grant(prefill_worker, grant(1), at(1ms));
  CHECK(only<encode_machine::run_tower>(machine.on_written(room, 0, {}, at(2ms))).empty());
  CHECK(only<encode_machine::run_tower>(machine.on_written(room, 1, {}, at(2ms))).size() == 1);
}

TEST_CASE_FIXTURE(fixture, "I39: a pixel slot is lent again only after the tower has read it, under a new generation") {
  (void)machine.on_encode(order(slots[0]), at(0ms));
  CHECK(sent<grant_pixels>(machine.on_pixels(room, 0, at(0ms))).empty());
  const auto credit = sent<grant_pixels>(machine.on_encoded(room, at(1ms)));
  REQUIRE(credit.size() == 1);
  CHECK(credit[0].second.slots.at(0).slot == slots[0].slot);
  CHECK(credit[0].second.slots.at(0).tenancy != slots[0].tenancy);
  const auto stale = sent<error>(machine.on_encode(order(slots[0], room_id{9}), at(2ms)));
  REQUIRE(stale.size() == 1);
  CHECK(fault_from(stale[0].second.code) == fault::stale_grant);
}

TEST_CASE_FIXTURE(fixture,
                  "I24: the pixels of a cancelled picture that had not arrived rest before their slot is lent") {
  (void)machine.on_encode(order(slots[0]), at(0ms));
  CHECK(sent<grant_pixels>(machine.on_cancel(request_id{1}, at(1ms))).empty());
  CHECK(sent<grant_pixels>(machine.on_tick(at(2ms))).empty());
  CHECK(sent<grant_pixels>(machine.on_tick(at(1ms) + limits::slot_quarantine)).size() == 1);
}

TEST_CASE_FIXTURE(fixture, "I30: a picture larger than a slot fails its request and nothing else") {
  auto large = order(slots[0]);
  large.tokens = 9;
  const auto effects = machine.on_encode(large, at(0ms));
  REQUIRE(sent<error>(effects).size() == 1);
  CHECK(fault_from(sent<error>(effects)[0].second.code) == fault::no_memory);
}

TEST_CASE_FIXTURE(
    fixture, "C29, C30, C49: a room whose grant lies, or whose write is refused, fails once, and the next is served") {
  enum class lie { grant, write };
  for (const auto which : {lie::grant, lie::write}) {
    auto wide = bounds();
    wide.row_slots = 2;
    encode_machine one{plan, encode_cell, wide};
    const auto pixels = sent<grant_pixels>(one.start()).at(0).second.slots;
    std::size_t errors = 0;
    std::size_t writes = 0;
    const auto take = [&](const encode_machine::effects& effects) {
      errors += sent<error>(effects).size();
      writes += only<encode_machine::write_rows>(effects).size();
    };
    for (const auto id : {room, room_id{8}}) {
      take(one.on_encode(order(pixels[id == room ? 0 : 1], id, id.value), at(0ms)));
      take(one.on_pixels(id, 0, at(0ms)));
      take(one.on_encoded(id, at(1ms)));
      take(one.on_grant(prefill_leader, grant(0, id), at(1ms)));
    }
    auto second = grant(1);
    second.rows -= which == lie::grant;
    take(one.on_grant(prefill_worker, second, at(2ms)));
    if (which == lie::write) {
      CHECK(writes == 2);
      take(one.on_written(room, 0, fail(fault::peer_gone, "not attached"), at(3ms)));
      take(one.on_written(room, 1, fail(fault::peer_gone, "not attached"), at(3ms)));
      writes = 0;
    }
    CHECK(errors == 1);
    CHECK(writes == 0);

    take(one.on_grant(prefill_worker, grant(1, room_id{8}), at(4ms)));
    CHECK(writes == 2);
    take(one.on_written(room_id{8}, 0, {}, at(5ms)));
    take(one.on_written(room_id{8}, 1, {}, at(5ms)));
    CHECK(errors == 1);
    CHECK(one.rooms() == 0);
  }
}

TEST_CASE_FIXTURE(fixture, "C32: a write that failed tells the front and gives the slot its rest") {
  (void)machine.on_encode(order(slots[0]), at(0ms));
  (void)machine.on_pixels(room, 0, at(0ms));
  (void)machine.on_encoded(room, at(1ms));
  (void)machine.on_grant(prefill_leader, grant(0), at(1ms));
  (void)machine.on_grant(prefill_worker, grant(1), at(1ms));
  CHECK(sent<error>(machine.on_written(room, 0, fail(fault::peer_gone), at(2ms))).size() == 1);
  CHECK(machine.rooms() == 1); // the other write still uses the slot
  CHECK(sent<error>(machine.on_written(room, 1, {}, at(3ms))).empty());
  CHECK(machine.rooms() == 0);
}
