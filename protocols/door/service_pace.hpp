#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "protocols/time.hpp"

namespace troupe::protocols {

/// How fast requests end, out of the newest ends, and so how long one that finds no place had better wait.
/// Contract: K9. Threads: its owner's.
class service_pace {
public:
  static constexpr std::chrono::seconds least{1};
  static constexpr std::chrono::seconds most{60};

  void on_ended(time_point now) noexcept {
    ends_[count_ % ends_.size()] = now;
    ++count_;
  }

  /// Until `before` requests have ended at the measured rate; `least` while nothing has been measured.
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
