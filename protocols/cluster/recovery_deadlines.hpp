#pragma once

#include <chrono>

#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/limits.hpp"

namespace troupe::protocols {

/// How long ranks and supervisor wait for each other while a unit is started again.
/// Whoever knows most speaks first: silence of a process is seen within `kill_ms`, so no wait for one rank ends before;
/// a newcomer knows which edge is missing before the ranks that stayed miss the newcomer; these say so before the
/// supervisor misses their word. Fixed times did not: with a longer `kill_ms` a newcomer complained of a rank that was
/// stopped no longer than it may be.
/// Contract: K14.
struct recovery_deadlines {
  std::chrono::milliseconds reconnect; ///< one edge of a newcomer to a rank that stayed, which listens all along
  std::chrono::milliseconds answer; ///< a rank that stayed takes the order to admit; its main thread waits for orders
  std::chrono::milliseconds admit;  ///< all edges and regions of a rank that stayed, from the order taken
  std::chrono::milliseconds word;   ///< the supervisor waits for word of them, from the order taken

  explicit constexpr recovery_deadlines(const cluster_spec::timeouts_section& timeouts) noexcept
      : reconnect{std::chrono::milliseconds{timeouts.kill_ms} + std::chrono::seconds{1}},
        answer{reconnect + std::chrono::seconds{1}}, admit{3 * reconnect}, word{admit + std::chrono::seconds{1}} {}

  /// From the order to admit to the judgement of who does not; `timeouts.start_ms` of the whole recovery is above it.
  constexpr std::chrono::milliseconds longest() const noexcept { return answer + word; }
};

static_assert(
    [](recovery_deadlines least) {
      return least.reconnect + 2 * limits::first_cause_grace < least.answer && least.answer < least.admit &&
             least.admit + limits::first_cause_grace < least.word;
    }(recovery_deadlines{{.kill_ms = 0}}),
    "each lets the one before it be told of");

} // namespace troupe::protocols
