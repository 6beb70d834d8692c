#include "runtime/base/counter_table.hpp"

#include <algorithm>

#include "runtime/base/assert.hpp"

namespace troupe::base {

using namespace protocols;

namespace {

std::size_t places_of(const metric_row& row, std::size_t ranks) noexcept {
  if (row.kind == metric_kind::histogram)
    return 2 + row.bounds.size();
  return row.about_peers ? ranks : 1;
}

} // namespace

counter_table::counter_table(std::span<const metric_row> rows, std::size_t ranks)
    : rows_(rows.begin(), rows.end()), ranks_(ranks) {
  std::ranges::sort(rows_, {}, &metric_row::number);
  std::size_t places = 0;
  for (const auto& row : rows_)
    places += places_of(row, ranks);
  places_ = std::make_unique<number[]>(places);
  auto* next = places_.get();
  for (const auto& row : rows_) {
    TROUPE_ASSERT("metrics", row.number.value < metrics_max && first_[row.number.value] == nullptr);
    first_[row.number.value] = next;
    bounds_[row.number.value] = row.bounds;
    next += places_of(row, ranks);
  }
}

void counter_table::observe(metric_number which, std::uint64_t value) noexcept {
  auto* const place = find(which);
  if (place == nullptr)
    return;
  const auto bounds = bounds_[which.value];
  const auto bucket = std::ranges::lower_bound(bounds, value) - bounds.begin();
  place[0].fetch_add(value, std::memory_order_relaxed);
  place[1 + bucket].fetch_add(1, std::memory_order_relaxed);
}

void counter_table::read(counters& into) const {
  into.values.clear();
  std::size_t histograms = 0;
  const auto value_of = [](const number& place) { return place.load(std::memory_order_relaxed); };
  for (const auto& row : rows_) {
    const auto* const place = first_[row.number.value];
    if (row.kind == metric_kind::histogram) {
      if (into.histograms.size() <= histograms)
        into.histograms.emplace_back();
      auto& out = into.histograms[histograms++];
      out.metric = row.number;
      out.sum = value_of(place[0]);
      out.counts.clear();
      for (std::size_t i = 0; i <= row.bounds.size(); ++i)
        out.counts.push_back(value_of(place[1 + i]));
    } else if (!row.about_peers) {
      into.values.push_back({row.number, about_nobody, value_of(place[0])});
    } else {
      for (std::uint32_t peer = 0; peer < ranks_; ++peer)
        if (const auto value = value_of(place[peer]); value != 0)
          into.values.push_back({row.number, rank_id{peer}, value});
    }
  }
  into.histograms.resize(histograms);
}

} // namespace troupe::base
