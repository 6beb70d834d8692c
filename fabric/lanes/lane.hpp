#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <poll.h>

#include "fabric/lanes/spin_budget.hpp"
#include "protocols/fault.hpp"
#include "protocols/time.hpp"
#include "protocols/wire/frame.hpp"

/// How frames go from one rank to another, in order, with a bounded number of bytes in flight.
///
/// A lane knows no message type and has no thread. Two styles of use share it:
/// - a wire thread watches many lanes: it drains each (`peek`/`pop`), arms all, and sleeps in one poll over their
///   descriptors;
/// - an executor drives the lanes of one group itself (`send`, `receive` below): brief spin, then poll.
///
/// The doorbell is an eventfd and not a futex: a futex cannot be waited for together with the companion socket, so a
/// rank blocked in a collective would learn of its peer's death only through another thread. The doorbell is rung only
/// when the other side has said that it sleeps, so a busy lane makes no system call.
namespace troupe::fabric {

enum class lane_kind { shared_memory, tcp };
std::string_view name(lane_kind kind) noexcept;

class lane {
public:
  virtual ~lane() = default;
  lane(const lane&) = delete;
  lane& operator=(const lane&) = delete;

  virtual lane_kind kind() const noexcept = 0;

  // ---- producer side: one thread at a time ----

  /// Sends header and payload as one frame, or nothing of it. The lane sets payload length, source, destination, their
  /// generations, sequence and checksum; type, flags and call are the caller's, and so is the epoch on a lane that
  /// lasts while others are lost (edge.hpp); 0 stands for the lane's own.
  /// Errors: lane_full (nothing was taken; wait for `writable`), peer_gone, frame_too_long, stale_epoch (the frame is
  /// older than the edge).
  /// Never blocks, never allocates once warm.
  virtual protocols::result<void> try_send(protocols::frame_header header, std::span<const std::byte> payload) = 0;

  // For a lane that drills a fault between the two halves of `try_send` (drilled_lane.hpp); nobody else calls them.

  /// The header as it would go out, with the next sequence and the checksum; sends nothing.
  virtual protocols::header_bytes stamp(protocols::frame_header header, std::span<const std::byte> payload) = 0;
  /// Sends stamped bytes as they are. Errors: those of try_send.
  virtual protocols::result<void> try_send_stamped(const protocols::header_bytes& header,
                                                   std::span<const std::byte> payload) = 0;

  /// Pushes out what a socket did not take yet. True when nothing is left. Shared memory: always true.
  virtual bool flush() = 0;

  // ---- consumer side: one thread at a time ----

  /// The next whole frame, checked (magic, version, type, flags, length, checksum, sequence), or nothing yet.
  /// The payload is valid until `pop`. Errors: those of the checks, peer_gone (after everything that had arrived
  /// was delivered); after an error the lane is closed and says peer_gone.
  virtual protocols::result<std::optional<protocols::frame_view>> peek() = 0;
  virtual void pop() = 0;
  /// A frame has begun to come that `peek` did not find whole. Never of shared memory, which shows whole frames alone.
  virtual bool is_amid_frame() const noexcept { return false; }

  // ---- waiting: one thread at a time, while no other uses the lane ----

  struct interest {
    bool readable = true;  ///< a frame or the peer's end
    bool writable = false; ///< room for a frame that did not fit; bytes that `flush` left are waited for in any case
  };

  /// Says that this side is going to sleep. False: do not sleep, something is there already.
  virtual bool arm(interest wanted) = 0;
  /// To be called after waking and before the next `arm`.
  virtual void disarm() = 0;

  /// What to poll for while armed (events already set for `wanted`); `count` of `fds` are in use.
  struct wait_set {
    std::array<pollfd, 3> fds{};
    std::size_t count = 0;
  };
  virtual wait_set waitables(interest wanted) const = 0;

  /// Bytes that are sent and not yet popped by the peer, as far as this side can know.
  virtual std::size_t bytes_in_flight() const noexcept = 0;

  /// Tells the peer and lets go; idempotent.
  virtual void close() noexcept = 0;

  /// Of the thread that waits.
  spin_budget& patience() noexcept { return patience_; }

protected:
  lane() = default;

private:
  spin_budget patience_;
};

/// One lane of a wait over several.
struct waiting {
  lane* on = nullptr;
  lane::interest wanted; ///< neither: wake only when the peer is gone
};

/// Arms all, sleeps in one poll until something moves on one of them, disarms all. Returns at once when something is
/// there already. `scratch` keeps its capacity between calls. Errors: timeout.
protocols::result<void> wait_any(std::span<const waiting> lanes, protocols::time_point deadline,
                                 std::vector<pollfd>& scratch);

/// Waits for room and sends. Spins briefly, then polls. Errors: those of try_send except lane_full; timeout.
protocols::result<void> send(lane& to, const protocols::frame_header& header, std::span<const std::byte> payload,
                             protocols::time_point deadline);

/// Waits for the next frame; the caller pops it. Errors: those of peek; timeout.
protocols::result<protocols::frame_view> receive(lane& from, protocols::time_point deadline);

} // namespace troupe::fabric
