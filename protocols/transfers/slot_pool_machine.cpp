#include "protocols/transfers/slot_pool_machine.hpp"

#include <string>

namespace troupe::protocols {

slot_pool_machine::slot_pool_machine(std::uint32_t slots) : slots_(slots) {
  for (std::uint32_t slot = 0; slot < slots; ++slot)
    free_.emplace_back(slot);
}

result<slot_ref> slot_pool_machine::acquire() {
  const keeps_invariants checked{*this};
  if (free_.empty())
    return protocols::fail(fault::no_memory, "of " + std::to_string(size()) + " slots none is free, " +
                                                 std::to_string(resting()) + " rest after a failure");
  const auto slot = free_.front();
  free_.pop_front();
  auto& state = slots_[slot.value];
  state.lease_generation = state.lease_generation.next();
  state.lent = true;
  ++lent_;
  return slot_ref{slot, state.lease_generation};
}

result<void> slot_pool_machine::release(const slot_ref& ref) {
  const keeps_invariants checked{*this};
  if (auto valid = check(ref); !valid)
    return valid;
  slots_[ref.slot.value].lent = false;
  --lent_;
  free_.push_back(ref.slot);
  return {};
}

result<void> slot_pool_machine::fail(const slot_ref& ref) {
  const keeps_invariants checked{*this};
  if (auto valid = check(ref); !valid)
    return valid;
  slots_[ref.slot.value].lent = false;
  --lent_;
  resting_.add(ref.slot);
  return {};
}

void slot_pool_machine::tick(time_point now) {
  const keeps_invariants checked{*this};
  for (const auto slot : resting_.end_due(now))
    free_.push_back(slot);
}

result<void> slot_pool_machine::check(const slot_ref& ref) const {
  const auto which = [&] {
    return "slot " + std::to_string(ref.slot.value) + ", generation " + std::to_string(ref.lease_generation.value);
  };
  if (ref.slot.value >= slots_.size())
    return protocols::fail(fault::bad_value, which() + ", of a pool of " + std::to_string(size()));
  const auto& state = slots_[ref.slot.value];
  if (state.lease_generation != ref.lease_generation)
    return protocols::fail(fault::stale_grant, which() + ", now " + std::to_string(state.lease_generation.value));
  if (!state.lent)
    return protocols::fail(fault::stale_grant, which() + ", which has ended");
  return {};
}

void slot_pool_machine::check_invariants() const noexcept {
  TROUPE_ASSERT("K3", available() + lent_ + resting() == size());
}

} // namespace troupe::protocols
