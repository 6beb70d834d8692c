#include <doctest/doctest.h>

#include "protocols/serve/message_types.hpp"
#include "protocols/serve/roles.hpp"
#include "tests/actors/role_rig.hpp"

using namespace troupe;
using namespace troupe::actors;
using namespace troupe::protocols;
using namespace troupe::tests;
using ranks::encode_worker;
using ranks::front;
using ranks::prefill;
using ranks::prefill_worker;

namespace {

constexpr auto leader = ranks::encode;
constexpr std::array receivers{prefill, prefill_worker};

/// Both ranks of an encode cell, which has granted its four pixel slots.
struct encode_cell : role_rig {
  encode_cell() : role_rig({leader, encode_worker}) {
    tell(leader, start_atom::value);
    tell(encode_worker, start_atom::value);
    for (const auto& slot : expect<grant_pixels>().from(leader).to(front).slots)
      credits.push_back(slot);
    CHECK(credits.size() == 4);
  }

  static room_id room_of(std::uint64_t request) { return room_id{200 + request}; }

  slot_ref take_credit() {
    REQUIRE_FALSE(credits.empty());
    const auto slot = credits.front();
    credits.pop_front();
    return slot;
  }
  /// What came back of them since.
  std::size_t credits_held() {
    while (count(serve_type::grant_pixels, leader, front) > 0)
      for (const auto& slot : expect<grant_pixels>().from(leader).to(front).slots)
        credits.push_back(slot);
    return credits.size();
  }
  void orders(std::uint64_t request, std::uint32_t tokens = 4, std::uint32_t deadline_ms = 60'000) {
    say(front, leader,
        protocols::encode{.request = request_id{request},
                          .room = room_of(request),
                          .pixels = take_credit(),
                          .height = 4,
                          .width = 4,
                          .tokens = tokens,
                          .content_hash = 0,
                          .prefill_cell = plan.cells_of(serve_role::prefill)[0],
                          .deadline_ms = deadline_ms});
  }
  void is_acknowledged() { expect<ack>().from(leader).to(front); }
  void writes_pixels(std::uint64_t request) {
    finish_downloads(front, leader, serve_transfer::pixels, room_of(request));
    finish_downloads(front, encode_worker, serve_transfer::pixels, room_of(request));
    expect<arrived>().from(encode_worker).to(leader);
  }
  void grants(std::uint64_t request, std::uint32_t part, generation born = generation{1}) {
    say(receivers.at(part), leader,
        grant_rows{.request = request_id{request},
                   .room = room_of(request),
                   .part = part,
                   .parts = 2,
                   .slot = {slot_index{1}, generation{1}},
                   .first_row = 0,
                   .rows = 4,
                   .row_elements = 4,
                   .dtype = element_type::f32,
                   .born = born,
                   .valid_ms = 60'000});
  }
  void runs_tower(std::uint64_t request) {
    const auto order = expect_order<encode_machine::run_tower>(leader);
    CHECK(order.item.room == room_of(request));
  }
  void ends_tower(std::uint64_t request) { tell(leader, encoded{room_of(request), nullptr}); }

  std::deque<slot_ref> credits; ///< that the front holds
};

} // namespace

TEST_CASE_FIXTURE(encode_cell,
                  "K4: the tower of a mesh runs once the worker, too, has its pixels, and says so itself") {
  orders(1);
  is_acknowledged();
  finish_downloads(front, leader, serve_transfer::pixels, room_of(1));
  CHECK_FALSE(has_order(leader));
  finish_downloads(front, encode_worker, serve_transfer::pixels, room_of(1));
  CHECK_FALSE(has_order(leader));
  expect<arrived>().from(encode_worker).to(leader);
  runs_tower(1);
  ends_tower(1);
  CHECK(credits_held() == 4);
  grants(1, 0);
  CHECK(writes_asked_for(leader) == 0); // not before all have granted
  grants(1, 1);
  for (const auto to : receivers) {
    const auto rows = expect_write(leader, to);
    CHECK(rows.what.pieces.front().bytes == 4 * 4 * sizeof(float));
    complete(rows);
  }
  tell(leader, step_machine::tower_ended{room_of(1), now(), now()});
  CHECK(expect<timing>().from(leader).to(front).part == phase::encode);
  CHECK(expect<timing>().from(leader).to(front).part == phase::rows);
  expect_silence();
}

TEST_CASE_FIXTURE(encode_cell, "K3: every order gives its pixel slot back, also one that is refused") {
  SUBCASE("too large") {
    orders(1, 17);
    CHECK(expect<error>().from(leader).to(front).code == static_cast<std::uint16_t>(fault::no_memory));
    writes_pixels(1); // the front had begun
  }
  SUBCASE("too large, and its pixels came first") {
    writes_pixels(1);
    orders(1, 17);
    CHECK(expect<error>().from(leader).to(front).code == static_cast<std::uint16_t>(fault::no_memory));
  }
  SUBCASE("after what came of it had waited for room_ms") {
    writes_pixels(1);
    pass(1100ms);
    orders(1);
    CHECK(expect<error>().from(leader).to(front).code == static_cast<std::uint16_t>(fault::timeout));
    CHECK(credits_held() == 3); // whether it has written whole is not known any more
    say(front, leader, pixels_returned{request_id{1}, room_of(1), true});
  }
  SUBCASE("whose pixels never come, and the front says so") {
    orders(1);
    is_acknowledged();
    pass(1100ms);
    CHECK(expect<error>().from(leader).to(front).code == static_cast<std::uint16_t>(fault::timeout));
    CHECK(credits_held() == 3);
    say(front, leader, pixels_returned{request_id{1}, room_of(1), true});
  }
  SUBCASE("whose pixels may still come") {
    orders(1);
    is_acknowledged();
    pass(1100ms);
    expect<error>().from(leader).to(front);
    say(front, leader, pixels_returned{request_id{1}, room_of(1), false});
    pass(limits::slot_quarantine - 1s);
    CHECK(credits_held() == 3);
    pass(2s);
  }
  CHECK(credits_held() == 4);
}

TEST_CASE_FIXTURE(encode_cell, "C15: a picture that is cancelled in any phase gives back its slot and its grants") {
  enum class phase { ordered, running, encoded, writing };
  std::uint64_t request = 0;
  for (const auto at : {phase::ordered, phase::running, phase::encoded, phase::writing}) {
    CAPTURE(static_cast<int>(at));
    const auto id = ++request;
    drop_frames();
    orders(id);
    is_acknowledged();
    grants(id, 0);
    if (at != phase::ordered) {
      writes_pixels(id);
      runs_tower(id);
    }
    if (at >= phase::encoded)
      ends_tower(id);
    std::vector<posted_write> writes;
    if (at == phase::writing) {
      grants(id, 1);
      for (const auto to : receivers)
        writes.push_back(expect_write(leader, to));
    }
    say(front, leader, cancel{request_id{id}, "the client left"});
    say(front, leader, cancel{request_id{id}, "the client left"});
    if (at == phase::ordered)
      say(front, leader, pixels_returned{request_id{id}, room_of(id), true});
    if (at == phase::running) {
      CHECK(credits_held() == 3); // the tower reads them
      ends_tower(id);
    }
    for (const auto& each : writes)
      complete(each);
    CHECK(credits_held() == 4);
    if (at == phase::writing) {
      CHECK(count(serve_type::rows_returned, leader, prefill) == 0); // written whole
    } else {
      CHECK(expect<rows_returned>().from(leader).to(prefill).settled);
      grants(id, 1); // late
      CHECK(expect<rows_returned>().from(leader).to(prefill_worker).settled);
    }
    CHECK(writes_asked_for(leader) == (at == phase::writing ? 2 : 0));
    pass(2s);
    CHECK(count(message_type::error, leader, front) == 0);
  }
}

TEST_CASE_FIXTURE(encode_cell, "K1: rows are not written under the grant of a prefill cell that was lost meanwhile") {
  orders(1);
  is_acknowledged();
  grants(1, 0);
  lose({prefill, prefill_worker}, generation{2});
  regain({prefill, prefill_worker}, generation{2});
  writes_pixels(1); // its room has ended with its grant
  grants(1, 1);     // under way when its owner was lost
  CHECK_FALSE(has_order(leader));
  say(front, leader, pixels_returned{request_id{1}, room_of(1), true});
  CHECK(writes_asked_for(leader) == 0);
  CHECK(credits_held() == 4);
  orders(2); // the next is served
  is_acknowledged();
  writes_pixels(2);
  runs_tower(2);
  ends_tower(2);
  for (const auto part : {0u, 1u})
    grants(2, part, generation{2});
  for (const auto to : receivers)
    complete(expect_write(leader, to));
}

TEST_CASE_FIXTURE(
    encode_cell, "C30: rows that cannot be written fail their request by name, and the grant comes back as unsettled") {
  orders(1);
  is_acknowledged();
  writes_pixels(1);
  runs_tower(1);
  ends_tower(1);
  CHECK(credits_held() == 4);
  SUBCASE("by the engine's word, later") {
    for (const auto part : {0u, 1u})
      grants(1, part);
    complete(expect_write(leader, prefill), fail(fault::transfer_failed, "the card says so"));
    CHECK_FALSE(expect<rows_returned>().from(leader).to(prefill).settled);
    complete(expect_write(leader, prefill_worker));
  }
  SUBCASE("at once") {
    refuse_writes(leader, fault::peer_gone);
    for (const auto part : {0u, 1u})
      grants(1, part);
    CHECK(expect<rows_returned>().from(leader).to(prefill).settled);
  }
  CHECK(expect<error>().from(leader).to(front).request == request_id{1});
  CHECK(count(message_type::error, leader, front) == 0); // once
}

TEST_CASE_FIXTURE(encode_cell, "C48: what has not come by its deadline ends its picture by name") {
  orders(1, 4, 3000);
  is_acknowledged();
  writes_pixels(1);
  runs_tower(1);
  ends_tower(1);
  CHECK(credits_held() == 4);
  grants(1, 0);
  pass(2900ms);
  CHECK(count(message_type::error, leader, front) == 0);
  pass(200ms);
  CHECK(expect<error>().from(leader).to(front).message.find("a receiver has not granted") != std::string::npos);
  CHECK(expect<rows_returned>().from(leader).to(prefill).request == request_id{1});
}
