#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/wire/frame.hpp"

namespace troupe::fabric {

/// Interface to a rank's outgoing frame queues. `wire` implements it; tests implement it too, to decide what happens to
/// each frame.
/// Threads: any. Nothing blocks.
class link_queues {
public:
  using key = std::uint64_t; ///< identifies a link; 0 identifies none

  virtual ~link_queues() = default;

  /// Queues one frame; type, flags, call and epoch are the caller's. Errors: queue_full (the link's bounds are
  /// reached), peer_gone (also a key of no link). A frame that its lane finds of an older epoch is dropped later, by
  /// name.
  virtual protocols::result<void> post(key which, const protocols::frame_header& header,
                                       std::vector<std::byte> payload) = 0;
  /// The receiver has finished with one frame of that link, so the link may accept another.
  virtual void handled(key which) = 0;
  /// Closes the link once what is queued has gone out, or its time is up.
  virtual void remove(key which) = 0;
  /// Grows while the thread that sends what is queued lives.
  virtual std::uint64_t turns() const noexcept = 0;
};

} // namespace troupe::fabric
