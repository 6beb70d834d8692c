#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "protocols/metrics/view_messages.hpp"

namespace troupe::base {

/// What one rank counts, in place: numbers that any thread adds to and one sends on each second.
/// Whoever computes must not wait for whoever measures: adding is one relaxed addition to a place that was made before,
/// without lock, allocation or log. A reader may see a histogram's sum without the count that belongs to it; the next
/// reading has both. A metric that the rank does not count is counted nowhere, so that shared code need not ask.
/// Contract: J3, J7.
/// Threads: any.
class counter_table {
public:
  counter_table() = default; ///< counts nothing
  /// `rows` as from `metrics_at`, copied. `ranks` of the cluster.
  counter_table(std::span<const protocols::metric_row> rows, std::size_t ranks);

  void add(protocols::metric_number which, std::uint64_t more = 1) noexcept {
    if (auto* const place = find(which))
      place->fetch_add(more, std::memory_order_relaxed);
  }
  void set(protocols::metric_number which, std::uint64_t now) noexcept {
    if (auto* const place = find(which))
      place->store(now, std::memory_order_relaxed);
  }
  /// Of a row that is about peers.
  void add_about(protocols::metric_number which, protocols::rank_id peer, std::uint64_t more) noexcept {
    if (auto* const place = find(which); place != nullptr && peer.value < ranks_)
      place[peer.value].fetch_add(more, std::memory_order_relaxed);
  }
  /// Of a histogram.
  void observe(protocols::metric_number which, std::uint64_t value) noexcept;

  /// All values so far, in the order of numbers. Keeps what `into` has allocated.
  void read(protocols::counters& into) const;

private:
  using number = std::atomic<std::uint64_t>;

  number* find(protocols::metric_number which) const noexcept {
    return which.value < first_.size() ? first_[which.value] : nullptr;
  }

  std::vector<protocols::metric_row> rows_;
  std::size_t ranks_ = 0;
  std::unique_ptr<number[]> places_;
  /// By number; null: not counted here. A histogram has its sum first, then its counts.
  std::array<number*, protocols::metrics_max> first_{};
  std::array<std::span<const std::uint64_t>, protocols::metrics_max> bounds_{};
};

} // namespace troupe::base
