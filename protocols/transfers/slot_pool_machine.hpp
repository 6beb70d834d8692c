#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/invariant.hpp"
#include "protocols/time.hpp"
#include "protocols/transfers/quarantine.hpp"
#include "protocols/transfers/slot_ref.hpp"

namespace troupe::protocols {

/// A fixed number of slots of one registered region, each lent to one tenant at a time.
/// A one-sided write checks nothing at its target, so a late one would arrive in the next tenant's memory. Two guards
/// prevent this. Each tenant of a slot gets a new `lease_generation`, so a reference of an earlier tenant is refused. A
/// slot is released only when no rank can write there any more (lent_rooms.hpp); otherwise it rests first
/// (quarantine.hpp). The slot that has been free longest is lent first: a stray write is least likely to hit it.
/// Invariant, asserted before and after each event: free, lent and resting slots are all that there are (K3).
/// Contract: I23, I24, I25, E23, K3.
class slot_pool_machine {
public:
  explicit slot_pool_machine(std::uint32_t slots);

  /// Errors: no_memory while every slot is lent or rests.
  result<slot_ref> acquire();
  /// Errors: as `check`, and nothing changes.
  result<void> release(const slot_ref& ref);
  /// Takes the slot back after an aborted write whose bytes may still arrive: it rests before it is lent again.
  /// Errors: as `check`, and nothing changes.
  result<void> fail(const slot_ref& ref);
  /// Ends the rests that are due.
  void tick(time_point now);
  /// Errors: stale_grant when the slot is not lent under this generation; bad_value for a slot that is not there.
  result<void> check(const slot_ref& ref) const;

  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(slots_.size()); }
  std::uint32_t available() const noexcept { return static_cast<std::uint32_t>(free_.size()); }
  std::uint32_t lent() const noexcept { return lent_; }
  std::uint32_t resting() const noexcept { return resting_.size(); }

private:
  friend class keeps_invariants<slot_pool_machine>;
  void check_invariants() const noexcept;
  void show_states(state_view& view) const;
  struct slot_state {
    generation lease_generation; ///< of the present tenant, or of the last one; the first is 1
    bool lent = false;
  };
  std::vector<slot_state> slots_;
  std::uint32_t lent_ = 0;
  std::deque<slot_index> free_;
  quarantine<slot_index> resting_;
};

} // namespace troupe::protocols
