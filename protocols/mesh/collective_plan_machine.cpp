#include "protocols/mesh/collective_plan_machine.hpp"

#include "protocols/mesh/plan_states.hpp"

namespace troupe::protocols {

collective_plan_machine::collective_plan_machine(const group_plan& group, std::uint32_t self)
    : group_(group.name), members_(static_cast<std::uint32_t>(group.members.size())), self_(self) {}

result<void> collective_plan_machine::begin(call_id call, std::string_view phase, std::uint32_t expected) {
  const keeps_invariants checked{*this};
  if (state_ == state::stepping)
    return broken(fault::illegal_transition, "a step begins inside another: " + where());
  if (state_ == state::broken)
    return broken(fault::illegal_transition, "a step begins after a broken one: " + where());
  if (call < call_)
    return broken(fault::plan_mismatch, "call " + std::to_string(call.value) + " comes after " + where());
  state_ = state::stepping;
  call_ = call;
  phase_.assign(phase);
  expected_ = expected;
  seen_ = 0;
  return {};
}

result<void> collective_plan_machine::enter(std::string_view kind, std::size_t count) {
  const keeps_invariants checked{*this};
  const auto what = [&] { return std::string{kind} + " of " + std::to_string(count); };
  if (self_ >= members_)
    return broken(fault::not_a_member, what() + " by a rank outside: " + where());
  if (state_ == state::idle)
    return broken(fault::wrong_group, what() + " where no step of this group is open, after " + where());
  if (state_ == state::broken)
    return broken(fault::plan_mismatch, what() + " after a broken step: " + where());
  if (seen_ == expected_)
    return broken(fault::plan_mismatch, what() + " is one more than planned: " + where());
  ++seen_;
  ++issued_total_;
  return {};
}

result<void> collective_plan_machine::end() {
  const keeps_invariants checked{*this};
  if (state_ != state::stepping)
    return broken(fault::illegal_transition, "no step to end, after " + where());
  if (seen_ != expected_)
    return broken(fault::plan_mismatch, "the step ends early: " + where());
  state_ = state::idle;
  return {};
}

tl::unexpected<failure> collective_plan_machine::broken(fault code, std::string what) {
  state_ = state::broken;
  return fail(code, std::move(what));
}

std::string collective_plan_machine::where() const {
  return "call " + std::to_string(call_.value) + ", phase " + phase_ + ", group " + group_ + ", expected " +
         std::to_string(expected_) + ", seen " + std::to_string(seen_);
}

void collective_plan_machine::check_invariants() const noexcept {
  TROUPE_ASSERT("A25", seen_ <= expected_ && seen_ <= issued_total_);
  TROUPE_ASSERT("B30", state_ != state::idle || seen_ == expected_);
}

void collective_plan_machine::show_states(state_view& view) const {
  view.show(collective_plan_table, {}, static_cast<std::size_t>(state_));
}

} // namespace troupe::protocols
