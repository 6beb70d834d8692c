#pragma once

#include <unistd.h>

#include <cstdint>

#include "runtime/base/unique_fd.hpp"

/// An eventfd that wakes a thread out of its poll. Both calls fail only with EAGAIN, which means that the doorbell is
/// in the wanted state already: so neither has a result. Any thread; neither blocks.
namespace troupe::base {

inline void ring(const unique_fd& doorbell) noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto rung = ::write(doorbell.get(), &one, sizeof one); // see above
}

/// Once its thread has woken. A timerfd that has expired is hushed alike.
inline void hush(const unique_fd& doorbell) noexcept {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto hushed = ::read(doorbell.get(), &count, sizeof count); // see above
}

} // namespace troupe::base
