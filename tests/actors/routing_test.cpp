#include <doctest/doctest.h>

#include <future>

#include "actors/rank_context.hpp"
#include "actors/serve/serve_routing.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/wire/codec.hpp"

using namespace troupe;
using namespace troupe::actors;
using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

/// Front 0, an encode mesh 1 and 2, prefill 3, decode 4.
cluster_plan plan_with_encode_mesh() {
  cluster_spec spec;
  spec.pools = {{"front", serve_role::front, 1, 1, 1},
                {"encode", serve_role::encode, 1, 2, 1},
                {"prefill", serve_role::prefill, 1, 1, 1},
                {"decode", serve_role::decode, 1, 1, 1}};
  return make_plan(spec).value();
}

template <class Message>
result<void> arrives(const rank_context& rank, rank_id from, const Message& message) {
  std::vector<std::byte> payload;
  encode_payload(message, payload);
  frame_header header;
  header.type = Message::type;
  header.source = from;
  header.destination = rank.self;
  return accept_frame(rank, {header, payload});
}

/// Tells of the first envelope of this kind.
template <class Message>
caf::actor first_of(caf::actor_system& in, std::promise<envelope<Message>>& first) {
  return in.spawn([&first](caf::event_based_actor*) -> caf::behavior {
    return {[&first](const envelope<Message>& letter) { first.set_value(letter); }};
  });
}

struct one_worker : caf::actor_system_config {
  one_worker() { set("scheduler.max-threads", std::size_t{1}); }
};

struct fixture {
  fixture() { rank.plan = plan_with_encode_mesh(); }
  one_worker config;
  caf::actor_system system{config};
  rank_context rank; ///< whose actors end before their system waits for them
};

} // namespace

TEST_CASE_FIXTURE(fixture, "K12: a frame for a role that is not there yet is no breach, and reaches the role") {
  rank.self = rank_id{0};
  const grant_pixels credits{.slots = {{slot_index{3}, generation{1}}}};
  CHECK(arrives(rank, rank_id{1}, credits));

  std::promise<envelope<grant_pixels>> heard;
  rank.roles->publish(serve_role::front, first_of(system, heard));
  auto letter = heard.get_future();
  REQUIRE(letter.wait_for(20s) == std::future_status::ready);
  const auto got = letter.get();
  CHECK(got.source == rank_id{1});
  CHECK(got.body == credits);
}

TEST_CASE_FIXTURE(fixture,
                  "K4: an encode leader hears from its worker that pixels have arrived, and from nobody else") {
  rank.self = rank_id{1};
  std::promise<outgoing> complaint;
  rank.links[rank_id{0}] = system.spawn([&complaint](caf::event_based_actor*) -> caf::behavior {
    return {[&complaint](const outgoing& letter) { complaint.set_value(letter); }};
  });
  std::promise<envelope<arrived>> heard;
  rank.roles->publish(serve_role::encode, first_of(system, heard));

  CHECK(arrives(rank, rank_id{3}, arrived{request_id{7}, room_id{8}})); // goes to nobody, and the front is told
  auto told = complaint.get_future();
  REQUIRE(told.wait_for(20s) == std::future_status::ready);
  const auto letter_to_front = told.get();
  CHECK(letter_to_front.type == error::type);
  error said;
  REQUIRE(decode_payload(letter_to_front.payload, said));
  CHECK(said.request == request_id{7});

  CHECK(arrives(rank, rank_id{2}, arrived{request_id{}, room_id{9}}));
  auto letter = heard.get_future();
  REQUIRE(letter.wait_for(20s) == std::future_status::ready);
  CHECK(letter.get().body.room == room_id{9});
}
