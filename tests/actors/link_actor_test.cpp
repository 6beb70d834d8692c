#include <doctest/doctest.h>

#include "protocols/serve/message_types.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/serve/routes.hpp"
#include "tests/actors/role_rig.hpp"

using namespace troupe;
using namespace troupe::actors;
using namespace troupe::protocols;
using namespace troupe::tests;
using ranks::decode;
using ranks::decode_worker;
using ranks::front;
using ranks::prefill;
using ranks::prefill_worker;

namespace {

reserve_kv order(std::uint64_t request) {
  return {.request = request_id{request},
          .room = room_id{100 + request},
          .prompt_tokens = 8,
          .max_tokens = 4,
          .sampling = {},
          .end_tokens = {},
          .prefill_cell = cell_id{3},
          .deadline_ms = 60'000,
          .prompt_digest = 0};
}

std::string as_text(const role_rig& rig) {
  std::string all;
  for (const auto& each : rig.failures)
    all += each + "\n";
  return all;
}

} // namespace

TEST_CASE("A26: a link whose queue is full ends the rank by the link's name, and one whose peer is dead drops what it "
          "is given") {
  role_rig rig{{decode}};
  REQUIRE(rig.plan.cell(cell_id{3}).role == serve_role::prefill);
  SUBCASE("full") {
    rig.break_link(decode, decode_worker.value, fault::queue_full);
    rig.say(front, decode, order(1));
    CHECK(rig.failures.size() == 1);
    CAPTURE(as_text(rig));
    CHECK(as_text(rig).find("link to " + rig.plan.rank(decode_worker).label) != std::string::npos);
    CHECK(as_text(rig).find(name(fault::queue_full)) != std::string::npos);
    rig.failures.clear();
    rig.mend_link(decode, decode_worker.value);
  }
  SUBCASE("dead") {
    rig.break_link(decode, decode_worker.value, fault::peer_gone);
    rig.say(front, decode, order(1));
    CHECK(rig.failures.empty());
    rig.mend_link(decode, decode_worker.value);
    CHECK(rig.count(serve_type::reserve_blocks, decode, decode_worker) == 0); // of a generation that is no more (D4)
  }
  rig.expect<ack>().from(decode).to(front); // the other links are as they were
  rig.say(front, decode, order(2));
  rig.expect<ack>().from(decode).to(front);
}

TEST_CASE("A26: a link that was given the lane of a new generation posts there, in order, and nowhere else") {
  role_rig rig{{decode}};
  rig.say(front, decode, order(1));
  rig.relink_to(decode, front, role_rig::client);
  rig.say(front, decode, order(2));
  rig.say(front, decode, order(3));
  CHECK(rig.expect<ack>().from(decode).to(front).request == request_id{1});
  CHECK(rig.expect<ack>().from(decode).to_client().request == request_id{2});
  CHECK(rig.expect<ack>().from(decode).to_client().request == request_id{3});
  CHECK(rig.count(serve_type::ack, decode, front) == 0);
}

TEST_CASE("K12: frames that come before their role is there are done in order when it is, and break no edge") {
  role_rig rig{{decode}, role_rig::small_spec(), {decode}};
  rig.say(front, decode, order(1));
  rig.say(front, decode, order(2));
  rig.say(front, decode, cancel{request_id{1}, "the client left"});
  rig.finish_downloads(prefill, decode, serve_transfer::kv, room_id{101}); // nobody has granted anything: of nobody
  CHECK(rig.count(serve_type::ack, decode, front) == 0);
  rig.come(decode);
  CHECK(rig.expect<ack>().from(decode).to(front).request == request_id{1});
  CHECK(rig.expect<ack>().from(decode).to(front).request == request_id{2});
  CHECK(rig.expect<reserve_blocks>().from(decode).to(decode_worker).request == request_id{1});
  CHECK(rig.expect<reserve_blocks>().from(decode).to(decode_worker).request == request_id{2});
  CHECK(rig.expect<release>().from(decode).to(decode_worker).request == request_id{1});
}

TEST_CASE("K4: a frame of a rank that may not say it goes to nobody, the front hears of it, and the edge goes on") {
  role_rig rig{{decode, prefill}};
  const auto is_refused = [&](rank_id at, rank_id origin, std::uint64_t request) {
    const auto told = rig.expect<error>().from(at).to(front);
    CHECK(told.code == static_cast<std::uint16_t>(fault::wrong_rank));
    CHECK(told.origin == origin);
    CHECK(told.request == request_id{request});
  };
  rig.say(prefill_worker, decode, order(1)); // a front's word
  is_refused(decode, prefill_worker, 1);
  rig.say(decode_worker, decode,
          handover{.request = request_id{2},
                   .room = {},
                   .first_token = 0,
                   .position_delta = 0,
                   .length = 0,
                   .digest = 0}); // a prefill leader's
  is_refused(decode, decode_worker, 2);
  rig.say(rank_id{12}, decode, arrived{request_id{3}, room_id{103}}); // of another cell
  is_refused(decode, rank_id{12}, 3);
  rig.say(ranks::other_prefill, prefill, release{request_id{4}}); // of another cell's leader
  is_refused(prefill, ranks::other_prefill, 4);
  rig.say(decode, prefill,
          grant_blocks{.request = request_id{5},
                       .room = room_id{105},
                       .part = 1, // it is part 0
                       .parts = 2,
                       .prompt_tokens = 8,
                       .blocks = {},
                       .lease_generation = generation{1},
                       .dtype = element_type::f32,
                       .born = generation{1},
                       .valid_ms = 1000});
  is_refused(prefill, decode, 5);
  rig.expect_silence();

  rig.say(front, decode, order(6)); // as if nothing had been
  CHECK(rig.expect<ack>().from(decode).to(front).request == request_id{6});
}

TEST_CASE("A26: bytes that are no message between roles are refused, and the actors never see them") {
  role_rig rig{{decode}};
  std::vector<std::byte> whole;
  encode_payload(order(1), whole);
  const auto unknown = rig.give(front, decode, serve_type::ask, whole);
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == fault::unknown_type);
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{9}, whole.size() / 2}) {
    CAPTURE(bytes);
    CHECK_FALSE(rig.give(front, decode, serve_type::reserve_kv, {whole.begin(), whole.begin() + bytes}));
  }
  rig.expect_silence();
  CHECK(rig.give(front, decode, serve_type::reserve_kv, whole));
  rig.expect<ack>().from(decode).to(front);
}

TEST_CASE("C46: every role actor lives on when ranks are lost, and when frames of theirs come late") {
  for (const auto real : {ranks::encode, ranks::encode_worker, prefill, prefill_worker, decode, decode_worker, front}) {
    CAPTURE(real.value);
    role_rig rig{{real}};
    for (std::uint32_t other = 0; other < ranks::count; ++other)
      if (const rank_id rank{other}; rank != real) {
        rig.lose({rank}, generation{2});
        rig.reap({rank});
        for (const auto type :
             {serve_type::cancel, serve_type::arrived, serve_type::kv_sent, serve_type::release,
              serve_type::rows_returned, serve_type::blocks_returned, serve_type::revoke_rows,
              serve_type::revoke_blocks, serve_type::rows_quiet, serve_type::blocks_quiet, serve_type::ack})
          if (!takers_of(rig.plan, type, rank, real).empty())
            CHECK(rig.give(rank, real, type, std::vector<std::byte>(64)));
        rig.regain({rank}, generation{2});
      }
    rig.pass(2s);
    CHECK(rig.lives(real));
  }
}
