#pragma once

#include <chrono>
#include <cstdint>

#include "protocols/time.hpp"

namespace troupe::fabric {

/// How long a waiting thread looks again and again before it sleeps. A wake-up costs 5 to 10 us each way between two
/// processes, so spinning longer than two of them saves nothing.
inline constexpr protocols::duration spin_limit = std::chrono::microseconds{20};

/// Learns from the last waits whether spinning pays. With a core for each side the answer comes within the limit; where
/// both share one, the peer cannot answer while this side spins, and every spin is lost time (49 us a round trip
/// instead of 8 on two busy cores). A spin that finds nothing shortens the next one, one that finds something restores
/// it, and now and then a full one asks whether the times have changed.
class spin_budget {
public:
  protocols::duration next() noexcept { return ++waits_ % full_spin_every == 0 ? spin_limit : budget_; }
  void found() noexcept { budget_ = spin_limit; }
  void slept() noexcept { budget_ = budget_ > spin_limit / 16 ? budget_ / 4 : protocols::duration{0}; }

private:
  static constexpr std::uint32_t full_spin_every = 16;
  protocols::duration budget_ = spin_limit;
  std::uint32_t waits_ = 0;
};

/// Tells the core that this is a spin loop.
inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

} // namespace troupe::fabric
