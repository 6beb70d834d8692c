#include "protocols/flight/flight.hpp"
#include "protocols/serve/flight_names.hpp"
#include "protocols/serve/message_types.hpp"

#include <doctest/doctest.h>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/mesh/collective_kind.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/serve/request_messages.hpp"
#include "protocols/serve/transfer_messages.hpp"
#include "protocols/wire/edge_messages.hpp"
#include "protocols/wire/frame.hpp"

using namespace troupe::protocols;

namespace {

flight_record full() {
  return {.time_ns = 0x0102030405060708,
          .call = call_id{17},
          .item = 0xfedcba9876543210u,
          .epoch = cache_epoch{3},
          .amount = 4096,
          .number = 0xdeadbeef,
          .peer = rank_id{4095},
          .group = group_id{4095},
          .operation = 0xabcd,
          .outcome = 15,
          .action = flight_action::verdict,
          .moment = flight_moment::end,
          .phase = flight_phase::other};
}

} // namespace

TEST_CASE("C8: a record keeps every field over its seven words, whose places are fixed") {
  CHECK(pack(full()) == flight_words{0x0102030405060708, 17, 0xfedcba9876543210u, 3, 4096, 0x0fff'0fff'dead'beefu,
                                     0x0008'020f'000f'abcdu});
  const auto back = unpack(pack(full()));
  REQUIRE(back);
  CHECK(*back == full());
  const auto empty = unpack(pack({}));
  REQUIRE(empty);
  CHECK(*empty == flight_record{});
}

TEST_CASE("Ranks that are no place in a spec keep their names in a record") {
  for (const auto who : {supervisor_rank, client_rank, no_peer, rank_id{0}}) {
    flight_record record;
    record.peer = who;
    const auto back = unpack(pack(record));
    REQUIRE(back);
    CHECK(back->peer == who);
  }
}

TEST_CASE("A record with a field outside its vocabulary is refused by the field's name") {
  struct change {
    std::size_t word;
    std::uint64_t value;
    const char* field;
  };
  for (const auto& [word, value, field] :
       {change{0, 1ull << 63, "time"}, change{0, (1ull << 61) + 1, "time"}, change{6, 19ull << 32, "action"},
        change{6, 3ull << 40, "moment"}, change{6, 9ull << 48, "phase"}, change{6, 1ull << 56, "spare byte"}}) {
    flight_words words{};
    words[word] = value;
    const auto refused = unpack(words);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == fault::bad_value);
    CHECK(refused.error().what.starts_with(field));
  }
}

TEST_CASE("J2: every action, moment and phase has a name, and the operation's vocabulary is the action's") {
  for (std::uint8_t i = 0; i <= static_cast<std::uint8_t>(flight_action::turn); ++i)
    CHECK_FALSE(name(flight_action{i}).empty());
  for (std::uint8_t i = 0; i <= static_cast<std::uint8_t>(flight_moment::end); ++i)
    CHECK_FALSE(name(flight_moment{i}).empty());
  for (std::uint8_t i = 0; i <= static_cast<std::uint8_t>(flight_phase::other); ++i)
    CHECK_FALSE(name(flight_phase{i}).empty());
  const auto number = [](auto operation) { return static_cast<std::uint16_t>(operation); };
  CHECK(operation_name(flight_action::collective, number(collective_kind::hop)) == "hop");
  CHECK(operation_name(flight_action::frame_sent, number(serve_type::handover)) == "handover");
  CHECK(operation_name(flight_action::life, number(life_state::grouped)) == "grouped");
  CHECK(operation_name(flight_action::part, number(start_part::weights)) == "weights");
  CHECK(operation_name(flight_action::turn, number(serve_actor::reader)) == "reader");
  CHECK(operation_name(flight_action::edge, number(channel_kind::tokens)) == "tokens");
  CHECK(operation_name(flight_action::fault, number(fault::peer_gone)) == "peer_gone");
  CHECK(operation_name(flight_action::ended, 1) == "signal");
  CHECK(operation_name(flight_action::step, 1).empty());
  for (const auto action : {flight_action::collective, flight_action::life, flight_action::edge, flight_action::fault,
                            flight_action::frame_received})
    CHECK(operation_name(action, 0xffff).empty());
  CHECK(phase_named("prefill") == serve_phase::prefill);
  CHECK(phase_named("none") == flight_phase::other);
  CHECK(phase_named("") == flight_phase::other);
}
