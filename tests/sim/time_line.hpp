#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "protocols/time.hpp"

namespace troupe::sim {

/// Virtual time: events in the order of their times, and of their making where times are equal. One thread.
class time_line {
public:
  using event = std::function<void()>;

  /// Machines subtract from times, so the first is far from zero.
  static constexpr protocols::time_point epoch{std::chrono::hours{1000}};

  protocols::time_point now() const noexcept { return now_; }
  void at(protocols::time_point when, event what) {
    due_.push_back({std::max(when, now_), made_++, std::move(what)});
    std::push_heap(due_.begin(), due_.end(), later);
  }
  void after(protocols::duration delay, event what) { at(now_ + delay, std::move(what)); }

  /// Nothing happens until then.
  void pass_to(protocols::time_point when) { now_ = std::max(now_, when); }
  bool empty() const noexcept { return due_.empty(); }
  protocols::time_point next() const noexcept { return due_.front().when; }
  void step() {
    std::pop_heap(due_.begin(), due_.end(), later);
    auto first = std::move(due_.back());
    due_.pop_back();
    now_ = first.when;
    first.what();
  }

private:
  struct entry {
    protocols::time_point when;
    std::uint64_t made = 0;
    event what;
  };
  static bool later(const entry& a, const entry& b) noexcept {
    return a.when != b.when ? a.when > b.when : a.made > b.made;
  }

  protocols::time_point now_ = epoch;
  std::uint64_t made_ = 0;
  std::vector<entry> due_; ///< a heap
};

} // namespace troupe::sim
