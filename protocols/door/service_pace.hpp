#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "protocols/time.hpp"

namespace troupe::protocols {

/// Estimates `Retry-After`: how many seconds a client waits before it repeats a refused request.
/// It measures the rate of the newest 32 requests that ended. Contract: K9. Threads: its owner's.
class service_pace {
public:
  static constexpr std::chrono::seconds least{1};
  static constexpr std::chrono::seconds most{60};

  /// A request has ended.
  void on_ended(time_point now) noexcept {
    ends_[count_ % ends_.size()] = now;
    ++count_;
  }

  /// The time in which `before` requests end at the measured rate, from `least` to `most`; `least` while fewer than two
  /// have ended.
  std::chrono::seconds wait_for(std::size_t before, time_point now) const noexcept {
    if (count_ < 2)
      return least;
    const auto known = count_ < ends_.size() ? count_ : ends_.size();
    const auto oldest = ends_[(count_ - known) % ends_.size()];
    const auto each = (now - oldest) / static_cast<std::int64_t>(known);
    const auto wait = std::chrono::ceil<std::chrono::seconds>(each * static_cast<std::int64_t>(before));
    return wait < least ? least : wait > most ? most : wait;
  }

private:
  std::array<time_point, 32> ends_{};
  std::size_t count_ = 0;
};

} // namespace troupe::protocols
