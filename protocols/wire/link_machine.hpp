#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <utility>

#include "protocols/fault.hpp"
#include "protocols/invariant.hpp"
#include "protocols/limits.hpp"
#include "protocols/time.hpp"
#include "protocols/wire/link_states.hpp"

namespace troupe::protocols {

/// What a link may make its rank hold; the frames of a peer rank are bounded by the machines' windows.
/// Contract: K9.
struct link_bounds {
  std::size_t queue_frames_max = limits::link_queue_frames_max;
  std::size_t queue_bytes_max = limits::link_queue_bytes_max;
  /// Frames that were handed on and not worked off yet: nothing more is read meanwhile.
  std::size_t unhandled_max = std::numeric_limits<std::size_t>::max();
  /// From a frame's first bytes to its last, while it is read. Who sends nothing at all may stay.
  duration frame_within = duration::max();

  /// Whether one more frame of `bytes` may wait behind those that do.
  bool may_queue(std::size_t queued_frames, std::size_t queued_bytes, std::size_t bytes) const noexcept {
    return queued_frames < queue_frames_max && queued_bytes + bytes <= queue_bytes_max;
  }
  bool may_read(std::size_t unhandled) const noexcept { return unhandled < unhandled_max; }
};

/// Whether a frame that its lane refuses is dropped, and the link goes on: it was decided before the edge began, so it
/// is meant for the process that had the peer's place before. Contract: D8.
constexpr bool drops_frame(fault unsent) noexcept {
  return unsent == fault::stale_epoch;
}
/// Whether a link is lost when its lane refuses a frame. A full lane is none of that: what is queued waits; a
/// heartbeat, which passes the queue by, is dropped. Whoever reads nothing is heard all the same, and whoever is not
/// read has a lane's worth of frames on the way.
constexpr bool ends_link(fault unsent) noexcept {
  return unsent != fault::lane_full && !drops_frame(unsent);
}

/// One link of a wire, from the lane that was handed in to the lane that is closed.
/// A link that leaves sends what is queued, and its peer's frames are dropped; its owner is told nothing more.
/// Contract: C20, D8, E21, K9. Threads: the wire's.
class link_machine {
public:
  enum class state {
    open,
    leaving, ///< let go by its owner
    gone,    ///< final: its lane is closed
  };

  state current() const noexcept { return at_; }
  bool is_gone() const noexcept { return at_ == state::gone; }
  /// Its frames are handed on, and heartbeats go out.
  bool is_open() const noexcept { return at_ == state::open; }

  void on_leave(time_point now) noexcept {
    const keeps_invariants checked{*this};
    if (at_ == state::gone)
      return;
    at_ = state::leaving;
    leaves_by_ = now + limits::link_leave_deadline;
  }
  /// The lane has ended, or the peer has broken the protocol. Returns whether the link was open: its owner is told.
  bool on_lost() noexcept {
    const keeps_invariants checked{*this};
    begun_.reset();
    return std::exchange(at_, state::gone) == state::open;
  }
  /// Nothing more is to be done for the link. `all_sent`: nothing of it waits, here or in its lane.
  bool is_over(bool all_sent, time_point now) const noexcept {
    return is_gone() || (at_ == state::leaving && (all_sent || now >= leaves_by_));
  }

  /// No frame is begun, or its rest waits for this rank to read on.
  void on_no_rest() noexcept { begun_.reset(); }
  /// A frame has begun and its rest has not come: the failure of a peer that takes longer than `within`, since it holds
  /// a place that others wait for.
  std::optional<failure> on_rest_missing(duration within, time_point now) {
    const keeps_invariants checked{*this};
    if (!begun_)
      begun_ = now;
    if (now - *begun_ < within)
      return std::nullopt;
    return failure{fault::timeout, "a frame was begun and not ended in time"};
  }

private:
  friend class keeps_invariants<link_machine>;
  void show_states(state_view& view) const { view.show(link_machine_table, {}, static_cast<std::size_t>(at_)); }
  void check_invariants() const noexcept {
    TROUPE_ASSERT("C20", at_ != state::open || leaves_by_ == time_point{});
    TROUPE_ASSERT("C20", at_ != state::gone || !begun_);
  }

  state at_ = state::open;
  time_point leaves_by_;
  std::optional<time_point> begun_; ///< of a frame whose rest has not come
};

/// When the next heartbeats go out.
/// Contract: C4. Threads: the wire's.
class beat_schedule {
public:
  explicit beat_schedule(duration period = {}) noexcept : period_(period) {}

  /// True once a period; late beats are not made up for.
  bool is_due(time_point now) noexcept {
    if (now < next_)
      return false;
    next_ = now + period_;
    return true;
  }
  /// Zero or less: one is due.
  duration left(time_point now) const noexcept { return next_ - now; }

private:
  duration period_;
  time_point next_;
};

} // namespace troupe::protocols
