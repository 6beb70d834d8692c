#pragma once

#include <chrono>

#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/limits.hpp"

namespace troupe::protocols {

/// How long ranks and supervisor wait for each other while a unit is started again.
/// The deadlines are ordered so that the process that knows most reports first. A silent process is detected within
/// `kill_ms`, so no wait for one rank is shorter. A newcomer reports a missing edge before the ranks that stayed report
/// the newcomer. These report before the supervisor's own deadline passes.
/// Rejected: fixed deadlines. With a longer `kill_ms`, a newcomer blamed a rank that had been stopped for no longer
/// than allowed. Contract: K14.
struct recovery_deadlines {
  std::chrono::milliseconds reconnect; ///< a newcomer makes one edge to a rank that stayed
  std::chrono::milliseconds answer;    ///< a rank that stayed acknowledges the order `rejoin`
  std::chrono::milliseconds admit;     ///< it makes all its edges and attaches all regions, from its acknowledgement
  std::chrono::milliseconds word;      ///< the supervisor waits for the result, from that acknowledgement

  explicit constexpr recovery_deadlines(const cluster_spec::timeouts_section& timeouts) noexcept
      : reconnect{std::chrono::milliseconds{timeouts.kill_ms} + std::chrono::seconds{1}},
        answer{reconnect + std::chrono::seconds{1}}, admit{3 * reconnect}, word{admit + std::chrono::seconds{1}} {}

  /// The longest time from the order `rejoin` until the supervisor names a rank that did not admit the newcomer.
  /// `timeouts.start_ms`, the deadline of the whole recovery, must be longer (spec_rules.cpp).
  constexpr std::chrono::milliseconds longest() const noexcept { return answer + word; }
};

static_assert(
    [](recovery_deadlines least) {
      return least.reconnect + 2 * limits::first_cause_grace < least.answer && least.answer < least.admit &&
             least.admit + limits::first_cause_grace < least.word;
    }(recovery_deadlines{{.kill_ms = 0}}),
    "each lets the one before it be told of");

} // namespace troupe::protocols
