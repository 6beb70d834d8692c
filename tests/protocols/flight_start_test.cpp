#include "protocols/flight/flight_start.hpp"

#include <doctest/doctest.h>

using namespace troupe::protocols;

namespace {

constexpr std::int64_t ms = 1'000'000;

void add_part(flight_story& to, start_part which, std::int64_t begin_ms, std::int64_t end_ms) {
  auto record = record_of(which);
  record.moment = flight_moment::begin;
  record.time_ns = begin_ms * ms;
  to.records.push_back(record);
  record.moment = flight_moment::end;
  record.time_ns = end_ms * ms;
  to.records.push_back(record);
}

flight_story story_of(std::uint32_t rank, std::uint32_t born) {
  return {.rank = rank_id{rank},
          .born = generation{born},
          .label = "decode." + std::to_string(rank),
          .host = {},
          .steady_ns = 100 * ms,
          .groups = {},
          .activities = {},
          .records = {},
          .words = {}};
}

} // namespace

TEST_CASE("a rank's start is told by its parts, those that come twice together, of its newest generation") {
  auto old = story_of(1, 1);
  add_part(old, start_part::weights, 110, 900);
  auto rank = story_of(1, 3);
  add_part(rank, start_part::files, 110, 120);
  add_part(rank, start_part::weights, 130, 150);
  add_part(rank, start_part::weights, 160, 165);
  rank.records.push_back(
      {.time_ns = 200 * ms, .operation = static_cast<std::uint16_t>(life_state::ready), .action = flight_action::life});
  auto starting = story_of(0, 1);
  add_part(starting, start_part::device, 110, 111);
  starting.records.back().moment = flight_moment::begin; // it is in the second one
  auto supervisor = story_of(9, 1);
  supervisor.rank = supervisor_rank;

  const auto lines = starts_of({supervisor, rank, old, starting});
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].part_ns == std::array<std::int64_t, start_parts>{});
  CHECK_FALSE(lines[0].ready_ns);
  CHECK(lines[1].born == generation{3});
  CHECK(lines[1].part_ns[static_cast<std::size_t>(start_part::files)] == 10 * ms);
  CHECK(lines[1].part_ns[static_cast<std::size_t>(start_part::weights)] == 25 * ms);
  CHECK(lines[1].ready_ns == 100 * ms);
}
