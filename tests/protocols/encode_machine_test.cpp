#include "protocols/serve/encode_machine.hpp"
#include "protocols/serve/roles.hpp"

#include <doctest/doctest.h>

#include "protocols/serve/validate_message.hpp"
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
          .dtype = element_type::f32,
          .born = generation{1},
          .valid_ms = 1000};
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
  const auto late = machine.on_grant(prefill_leader, grant(0), at(1001ms)); // a tombstone, not a new room
  REQUIRE(sent<rows_returned>(late).size() == 1);                           // K2: it will not be used
  CHECK(sent<rows_returned>(late)[0].second.settled);
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
  CHECK(credit[0].second.slots.at(0).lease_generation != slots[0].lease_generation);
  const auto stale = sent<error>(machine.on_encode(order(slots[0], room_id{9}), at(2ms)));
  REQUIRE(stale.size() == 1);
  CHECK(fault_from(stale[0].second.code) == fault::stale_grant);
}

TEST_CASE_FIXTURE(
    fixture, "K2, K3: the pixel slot of a picture that ends early is lent again by the front's word or its bytes") {
  enum class end { cancelled, too_large, retired };
  enum class word { arrived, settled, unsettled };
  for (const auto how : {end::cancelled, end::too_large, end::retired})
    for (const auto what : {word::arrived, word::settled, word::unsettled}) {
      encode_machine one{plan, encode_cell, bounds()};
      const auto pixels = sent<grant_pixels>(one.start()).at(0).second.slots.at(0);
      auto wanted = order(pixels);
      if (how == end::retired) { // what came first has waited for its order in vain
        (void)one.on_grant(prefill_leader, grant(0), at(0ms));
        (void)one.on_tick(at(1000ms));
      }
      wanted.tokens = how == end::too_large ? 9 : 4;
      const auto ordered = one.on_encode(wanted, at(1001ms));
      CHECK(sent<error>(ordered).size() == (how == end::cancelled ? 0 : 1)); // R11: no slot is lost by a refusal
      if (how == end::cancelled)
        CHECK(sent<grant_pixels>(one.on_cancel(request_id{1}, at(1002ms))).empty());
      CHECK(sent<grant_pixels>(one.on_tick(at(100s))).empty()); // silence is not gone
      CHECK(one.pixel_slots_lent() == 2);
      const auto credit = what == word::arrived ? one.on_pixels(room, 0, at(100s))
                                                : one.on_pixels_returned({request_id{1}, room, what == word::settled});
      if (what == word::unsettled) {
        CHECK(sent<grant_pixels>(credit).empty());
        std::size_t credits = 0;
        for (auto now = 100s; now < 111s; now += 1s)
          for (int tenth = 0; tenth < 10; ++tenth)
            credits += sent<grant_pixels>(one.on_tick(at(now + tenth * 100ms))).size();
        CHECK(credits == 1);
      } else {
        REQUIRE(sent<grant_pixels>(credit).size() == 1);
        CHECK(sent<grant_pixels>(credit)[0].second.slots.at(0).lease_generation != pixels.lease_generation);
      }
    }
}

TEST_CASE_FIXTURE(fixture, "K1: rows are written under no lease that has ended, and the grants go back") {
  (void)machine.on_encode(order(slots[0]), at(0ms));
  (void)machine.on_pixels(room, 0, at(0ms));
  auto short_lived = grant(1);
  short_lived.valid_ms = 10;
  (void)machine.on_grant(prefill_leader, grant(0), at(1ms));
  (void)machine.on_grant(prefill_worker, short_lived, at(1ms));
  const auto effects = machine.on_encoded(room, at(11ms));
  CHECK(only<encode_machine::write_rows>(effects).empty());
  CHECK(fault_from(sent<error>(effects).at(0).second.code) == fault::stale_grant);
  CHECK(sent<rows_returned>(effects).size() == 2);
}

TEST_CASE_FIXTURE(fixture, "K2: a revoked grant is returned at once, or when the write that is on its way has ended") {
  (void)machine.on_encode(order(slots[0]), at(0ms));
  (void)machine.on_pixels(room, 0, at(0ms));
  (void)machine.on_grant(prefill_leader, grant(0), at(0ms));
  SUBCASE("before the tower has ended") {
    const auto effects = machine.on_revoke(prefill_leader, {request_id{1}, room});
    REQUIRE(sent<rows_returned>(effects).size() == 1);
    CHECK(sent<rows_returned>(effects)[0] == std::pair{prefill_leader, rows_returned{request_id{1}, room, true}});
    (void)machine.on_grant(prefill_worker, grant(1), at(1ms));
    CHECK(only<encode_machine::write_rows>(machine.on_encoded(room, at(2ms))).empty());
    CHECK(machine.rooms() == 0);
  }
  SUBCASE("while a write is on its way") {
    (void)machine.on_grant(prefill_worker, grant(1), at(1ms));
    REQUIRE(only<encode_machine::write_rows>(machine.on_encoded(room, at(2ms))).size() == 2);
    CHECK(machine.on_revoke(prefill_leader, {request_id{1}, room}).empty());
    for (const bool arrives : {true, false}) {
      const auto outcome = arrives ? result<void>{} : fail(fault::timeout);
      const auto word = sent<rows_returned>(machine.on_written(room, arrives ? 0 : 1, outcome, at(3ms)));
      REQUIRE(word.size() == 1);
      CHECK(word[0].second.settled == arrives);
    }
  }
  SUBCASE("of a room that nobody knows") {
    CHECK(sent<rows_returned>(machine.on_revoke(prefill_leader, {request_id{5}, room_id{50}})).size() == 1);
  }
}

TEST_CASE_FIXTURE(fixture, "K1: a grant of ranks that were lost is forgotten, also one that comes late") {
  (void)machine.on_encode(order(slots[0]), at(0ms));
  (void)machine.on_pixels(room, 0, at(0ms));
  (void)machine.on_grant(prefill_leader, grant(0), at(0ms));
  CHECK(machine.on_lost({.ranks = {prefill_leader, prefill_worker}, .next = generation{2}, .cause = {}}).empty());
  CHECK(machine.on_grant(prefill_worker, grant(1), at(1ms)).empty());
  CHECK(only<encode_machine::write_rows>(machine.on_encoded(room, at(2ms))).empty());
  CHECK(machine.rooms() == 0);
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

TEST_CASE_FIXTURE(fixture,
                  "K12: what comes of rooms before their orders is parked within a bound, and beyond it goes back") {
  for (std::uint64_t early = 10; early < 10 + bounds().rooms_max; ++early)
    CHECK(machine.on_pixels(room_id{early}, 0, at(0ms)).empty());
  REQUIRE(machine.rooms() == bounds().rooms_max);
  CHECK(machine.on_pixels(room_id{30}, 0, at(0ms)).empty());
  const auto word = sent<rows_returned>(machine.on_grant(prefill_leader, grant(0, room_id{31}), at(0ms)));
  REQUIRE(word.size() == 1);
  CHECK(word[0].first == prefill_leader);
  CHECK(machine.rooms() == bounds().rooms_max);
  CHECK(only<encode_machine::run_tower>(machine.on_encode(order(slots[0], room_id{10}), at(1ms))).size() == 1);
}

TEST_CASE_FIXTURE(fixture, "K16: a picture whose pixels do not come, or that gets no turn of the tower, ends by name") {
  std::string why;
  SUBCASE("its pixels do not come") {
    (void)machine.on_encode(order(slots[0], room_id{8}, 2), at(0ms));
    why = "the pixels have not arrived";
  }
  SUBCASE("it gets no turn") {
    (void)machine.on_encode(order(slots[0]), at(0ms));
    REQUIRE(only<encode_machine::run_tower>(machine.on_pixels(room, 0, at(0ms))).size() == 1);
    (void)machine.on_encode(order(slots[1], room_id{8}, 2), at(0ms));
    REQUIRE(only<encode_machine::run_tower>(machine.on_pixels(room_id{8}, 0, at(0ms))).empty());
    why = "the tower had no turn";
  }
  CHECK(sent<error>(machine.on_tick(at(999ms))).empty());
  const auto told = sent<error>(machine.on_tick(at(1s)));
  REQUIRE(told.size() == 1);
  CHECK(told[0].second.request == request_id{2});
  CHECK(fault_from(told[0].second.code) == fault::timeout);
  CHECK(told[0].second.message.starts_with(why));
}

TEST_CASE("K2: rows that an aborted write may still read rest, in time that the rank itself ran") {
  const auto plan = reader_plan();
  for (const auto outcome : {fault::timeout, fault::peer_gone}) {
    // given: the only row slot, of which one write was aborted, or never begun
    encode_machine machine{plan, encode_cell, bounds()};
    const auto pixels = sent<grant_pixels>(machine.start()).at(0).second.slots;
    (void)machine.on_tick(at(0ms));
    (void)machine.on_encode(order(pixels[0]), at(0ms));
    (void)machine.on_pixels(room, 0, at(0ms));
    (void)machine.on_encoded(room, at(0ms));
    (void)machine.on_grant(prefill_leader, grant(0), at(0ms));
    (void)machine.on_grant(prefill_worker, grant(1), at(0ms));
    (void)machine.on_written(room, 0, fail(outcome), at(0ms));
    (void)machine.on_written(room, 1, {}, at(0ms));

    // when: another picture wants it
    auto next = order(pixels[1], room_id{8}, 2);
    next.deadline_ms = 3'600'000;
    (void)machine.on_encode(next, at(0ms));
    const auto begun = only<encode_machine::run_tower>(machine.on_pixels(room_id{8}, 0, at(0ms)));

    // then
    CHECK(begun.empty() == may_still_arrive(outcome));
    if (!begun.empty())
      continue;
    std::chrono::milliseconds now = 0ms;
    for (duration ran{}; ran + 100ms < limits::slot_quarantine; ran += 100ms)
      REQUIRE(only<encode_machine::run_tower>(machine.on_tick(at(now += 100ms))).empty());
    CHECK(only<encode_machine::run_tower>(machine.on_tick(at(now += 100ms))).size() == 1);
  }
}

TEST_CASE_FIXTURE(fixture,
                  "C32: a write that failed tells the front, and its slot is in use until the others have ended") {
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

TEST_CASE("I4: a worker of a mesh says to its leader, and to nobody else, that a room's pixels are with it") {
  cluster_spec spec;
  spec.pools = {{"front", serve_role::front, 1, 1, 1},
                {"encode", serve_role::encode, 2, 2, 1},
                {"prefill", serve_role::prefill, 1, 1, 1},
                {"decode", serve_role::decode, 1, 1, 1}};
  const auto plan = make_plan(spec).value();
  for (const auto id : plan.cells_of(serve_role::encode)) {
    const auto& cell = plan.cell(id);
    const encode_member_machine worker{cell};
    const auto said = worker.on_pixels(room);
    CHECK(said.size() == 1);
    CHECK(sent<arrived>(said) == std::vector{std::pair{cell.leader(), arrived{request_id{}, room}}});
    CHECK(validate_message(plan, cell.leader(), cell.ranks[1], arrived{request_id{}, room}).has_value());
  }
}

TEST_CASE_FIXTURE(fixture, "I24: a pixel slot that one room has is no other's, and its own room goes on") {
  REQUIRE(sent<ack>(machine.on_encode(order(slots[0]), at(0ms))).size() == 1);
  const auto refused = sent<error>(machine.on_encode(order(slots[0], room_id{8}, 2), at(0ms)));
  REQUIRE(refused.size() == 1);
  CHECK(refused[0].second.code == static_cast<std::uint16_t>(fault::stale_grant));
  CHECK(refused[0].second.request == request_id{2});
  CHECK(machine.pixel_slots_lent() == 2);
  CHECK(only<encode_machine::run_tower>(machine.on_pixels(room, 0, at(1ms))).size() == 1);
}
