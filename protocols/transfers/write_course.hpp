#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/invariant.hpp"
#include "protocols/time.hpp"
#include "protocols/transfers/lease.hpp"

/// How a one-sided write goes on and ends, as every transfer engine must decide it.
namespace troupe::protocols {

/// What an engine knows of a write between two of its copies.
struct write_sight {
  std::optional<rank_id> to;     ///< none: this rank itself
  const failure* gone = nullptr; ///< why its target has gone; none: it is there
  generation owner_now;          ///< of the rank that is written to
  bool handed_over = false;      ///< to a device, which does not give its copies back
};

/// Errors: timeout, with the rank.
result<void> check_deadline(time_point deadline, std::optional<rank_id> to, time_point now);

/// Whether a write may begin, or go on with its next copy. Checks in this order: target gone,
/// deadline, lease. A lease that ends while a device copies is ignored, because the copy cannot be stopped; the owner
/// learns that the write has ended before it lends the memory again.
/// Contract: K1. Errors: the failure of the target, timeout, stale_grant. Allocates only for an error.
result<void> check_write(const lease& under, time_point deadline, const write_sight& at, time_point now);

/// One write that goes over a network as several operations, which complete in any order.
/// The last operation tells the peer that all pieces are there. It is posted only after every other operation has
/// completed. When the lease ends, no further operation is posted, and those already posted are awaited. The owner is
/// told only after that, when no byte can arrive any more.
/// Contract: E10, I31, K1. Threads: the engine's.
class write_course {
public:
  enum class state {
    under_way, ///< operations are missing, or are in flight
    delivered, ///< all pieces are there, and the peer has the word of it
    revoked,   ///< its lease has ended, and nothing of it is in flight
  };

  /// Whether its next operation may be posted; `last`: it is the one that carries the word.
  bool may_post(bool last) const noexcept { return goes_on() && !(last && in_flight_ > 0); }
  /// There is a next operation to post, now or once others have completed.
  bool goes_on() const noexcept { return !is_whole_ && !revoked_; }
  void on_posted(bool last) noexcept {
    TROUPE_ASSERT("I31", may_post(last));
    ++in_flight_;
    is_whole_ = last;
  }
  void on_completed() noexcept {
    TROUPE_ASSERT("I31", in_flight_ > 0);
    --in_flight_;
  }
  void on_lease_ended(failure cause) { revoked_ = std::move(cause); }

  state current() const noexcept {
    if (in_flight_ > 0 || goes_on())
      return state::under_way;
    return revoked_ ? state::revoked : state::delivered;
  }
  /// The failure of a write that was revoked.
  const std::optional<failure>& revoked() const noexcept { return revoked_; }
  /// Bytes of it may be on the way: it ends with its connection.
  bool is_in_flight() const noexcept { return in_flight_ > 0; }

private:
  std::size_t in_flight_ = 0; ///< operations
  bool is_whole_ = false;     ///< all operations were posted
  std::optional<failure> revoked_;
};

} // namespace troupe::protocols
