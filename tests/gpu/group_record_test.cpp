#include <doctest/doctest.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include "gpu/group.hpp"
#include "protocols/serve/flight_names.hpp"
#include "runtime/base/flight_files.hpp"

using namespace troupe;
using namespace troupe::protocols;

namespace {

/// Does nothing; the sum fails when it is told to.
class idle_backend final : public gpu::collective_backend {
public:
  explicit idle_backend(const bool& fails) : fails_(fails) {}
  result<void> all_reduce_sum(std::span<float>, time_point) override {
    return fails_ ? result<void>{fail(fault::peer_gone)} : result<void>{};
  }
  result<void> all_reduce_min(std::span<std::int32_t>, time_point) override { return {}; }
  result<void> all_gather(std::span<const float>, std::span<float>, time_point) override { return {}; }
  result<void> broadcast(std::span<std::byte>, std::uint32_t, time_point) override { return {}; }
  result<void> send(std::uint32_t, std::span<const std::byte>, time_point) override { return {}; }
  result<void> receive(std::uint32_t, std::span<std::byte>, time_point) override { return {}; }

private:
  const bool& fails_;
};

/// The recorder of a process is opened once, and stays.
const std::filesystem::path& ring() {
  static const auto file = [] {
    std::string folder = (std::filesystem::temp_directory_path() / "troupe-group-XXXXXX").string();
    REQUIRE(::mkdtemp(folder.data()) != nullptr);
    REQUIRE(base::open_flight(
        folder,
        {.rank = rank_id{7}, .born = generation{1}, .label = "prefill.0/t1", .groups = {{group_id{4}, "prefill.0"}}}));
    return base::flight_file(folder, rank_id{7}, generation{1});
  }();
  return file;
}

flight_story story() {
  auto read = base::read_flight_file(ring());
  REQUIRE_MESSAGE(read, to_string(read.error()));
  return *std::move(read);
}

} // namespace

TEST_CASE("B8, J2: every collective is noted with call, group, name and count, entered and left") {
  bool fails = false;
  ring();
  gpu::group group{{group_id{4}, "prefill.0", {rank_id{6}, rank_id{7}}},
                   1,
                   std::make_unique<idle_backend>(fails),
                   std::chrono::seconds{1}};
  std::array<float, 8> few{};
  std::array<float, 16> all{};
  std::array<std::int32_t, 2> least{};

  REQUIRE(group.begin(call_id{17}, "prefill", 6));
  REQUIRE(group.all_reduce_sum(few));
  REQUIRE(group.send(0, std::as_bytes(std::span{few})));
  REQUIRE(group.all_reduce_min(least));
  REQUIRE(group.all_gather(few, all));
  REQUIRE(group.broadcast(std::as_writable_bytes(std::span{few}), 0));
  fails = true;
  REQUIRE_FALSE(group.all_reduce_sum(few));
  REQUIRE_FALSE(group.all_reduce_sum(few)); // one more than planned: not entered, so not noted

  struct expected {
    collective_kind kind;
    std::uint64_t count;
    std::uint32_t number; ///< hops are not numbered: other members take part in others
    rank_id peer;
  };
  constexpr std::array noted{expected{collective_kind::all_reduce_sum, 8, 1, no_peer},
                             expected{collective_kind::hop, 32, 0, rank_id{6}},
                             expected{collective_kind::all_reduce_min, 2, 2, no_peer},
                             expected{collective_kind::all_gather, 8, 3, no_peer},
                             expected{collective_kind::broadcast, 32, 4, rank_id{6}},
                             expected{collective_kind::all_reduce_sum, 8, 5, no_peer}};
  const auto seen = story();
  REQUIRE(seen.records.size() == 2 * noted.size());
  for (std::size_t i = 0; i < noted.size(); ++i) {
    CAPTURE(i);
    for (const auto moment : {flight_moment::begin, flight_moment::end}) {
      const auto& record = seen.records[2 * i + (moment == flight_moment::end ? 1 : 0)];
      CHECK(record.action == flight_action::collective);
      CHECK(record.moment == moment);
      CHECK(record.call == call_id{17});
      CHECK(record.group == group_id{4});
      CHECK(record.phase == serve_phase::prefill);
      CHECK(record.operation == static_cast<std::uint16_t>(noted[i].kind));
      CHECK(record.amount == noted[i].count);
      CHECK(record.number == noted[i].number);
      CHECK(record.peer == noted[i].peer);
    }
  }
  CHECK(seen.records.back().outcome == static_cast<std::uint16_t>(fault::peer_gone));
  CHECK(seen.groups.at(0).entered == 5);
  CHECK(seen.activities.at(0).what.number == 5);
  std::filesystem::remove_all(ring().parent_path()); // the mapping stays
}
