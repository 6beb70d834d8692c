#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/wire/frame.hpp"

namespace troupe::fabric {

/// The queues of frames for the links of a rank: all that actors need of the thread that drives the lanes (`wire`).
/// Actors know this form and not the thread, so that a test decides what becomes of a frame.
/// Threads: any. Nothing blocks.
class link_queues {
public:
  using key = std::uint64_t; ///< of a link; 0: of none

  virtual ~link_queues() = default;

  /// Queues one frame. Errors: queue_full (the link's bounds are reached), peer_gone (also a key of no link).
  virtual protocols::result<void> post(key which, protocols::message_type type, protocols::call_id call,
                                       std::vector<std::byte> payload) = 0;
  /// One frame that came over that link has been worked off.
  virtual void handled(key which) = 0;
  /// Closes the link once what is queued has gone out, or its time is up.
  virtual void remove(key which) = 0;
  /// Grows while the thread that sends what is queued lives.
  virtual std::uint64_t turns() const noexcept = 0;
};

} // namespace troupe::fabric
