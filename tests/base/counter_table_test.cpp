#include "runtime/base/counter_table.hpp"

#include <doctest/doctest.h>

#include <thread>

using namespace troupe;
using namespace troupe::protocols;

namespace {

constexpr std::array<std::uint64_t, 3> bounds{10, 20, 40};
constexpr metric_number gone{40};
constexpr metric_number took{41};
constexpr metric_number sent{42};
constexpr metric_number now{43};
constexpr std::array rows{
    metric_row{.number = now, .kind = metric_kind::gauge, .name = "now", .help = ""},
    metric_row{.number = gone, .name = "gone_total", .help = ""},
    metric_row{.number = took, .kind = metric_kind::histogram, .name = "took", .help = "", .bounds = bounds},
    metric_row{.number = sent, .name = "sent_total", .help = "", .about_peers = true},
};

counters read(const base::counter_table& table) {
  counters out;
  table.read(out);
  return out;
}

} // namespace

TEST_CASE("J7: what is counted is read by number, a histogram by its buckets, a peer that got nothing not at all") {
  base::counter_table table{rows, 3};
  table.add(gone);
  table.add(gone, 4);
  table.set(now, 9);
  table.set(now, 7);
  for (const std::uint64_t value : {0u, 10u, 11u, 40u, 41u, 1000u})
    table.observe(took, value);
  table.add_about(sent, rank_id{2}, 100);

  const auto seen = read(table);

  CHECK(seen.values ==
        std::vector<counter_value>{{gone, about_nobody, 5}, {sent, rank_id{2}, 100}, {now, about_nobody, 7}});
  REQUIRE(seen.histograms.size() == 1);
  CHECK(seen.histograms[0] == histogram_value{took, 0 + 10 + 11 + 40 + 41 + 1000, {2, 1, 1, 2}});
}

TEST_CASE("J7: what a rank does not count changes nothing, and is not read") {
  base::counter_table table{std::span{rows}.subspan(1, 1), 3};
  table.observe(took, 5);
  table.add_about(sent, rank_id{1}, 5);
  table.set(metric_number{static_cast<std::uint16_t>(metrics_max)}, 1);
  base::counter_table nothing;
  nothing.add(gone);

  CHECK(read(table).values == std::vector<counter_value>{{gone, about_nobody, 0}});
  CHECK(read(table).histograms.empty());
  CHECK(read(nothing).values.empty());
}

TEST_CASE("J7: a peer that is none is counted nowhere") {
  base::counter_table table{rows, 3};
  table.add_about(sent, rank_id{3}, 5);

  CHECK(read(table).values.size() == 2);
}

TEST_CASE("J7: threads that count at the same time lose nothing") {
  base::counter_table table{rows, 3};
  const auto count = [&] {
    for (std::uint64_t i = 0; i < 20'000; ++i) {
      table.add(gone);
      table.observe(took, i % 50);
    }
  };
  std::thread one{count};
  std::thread other{count};
  one.join();
  other.join();

  const auto seen = read(table);
  CHECK(seen.values.front().value == 40'000);
  CHECK(seen.histograms[0].counts == std::vector<std::uint64_t>{8'800, 8'000, 16'000, 7'200});
}
