#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/invariant.hpp"

namespace troupe::protocols {

/// Holds the collectives of each step on one group against the step's plan, before any of them is entered.
/// A collective too many waits for peers that will never come, and one too few leaves them waiting: both hang inside a
/// library that says nothing. Counting here turns either into a fault that names call, phase and group.
/// Contract: A25, B9, B21, B29, B30, D18.
/// Threads: the executor that owns the group. No allocation on the good path once `phase` has its capacity.
class collective_plan_machine {
public:
  enum class state {
    idle,     ///< no step is open; a collective now is on the wrong group
    stepping, ///< between begin and end
    broken,   ///< reality has left the plan; final, the rank leaves
  };

  /// `self` is the place of this rank in `group`.
  collective_plan_machine(const group_plan& group, std::uint32_t self);

  /// A step begins that will issue exactly `expected` collectives. Several steps may share a call.
  /// Errors: illegal_transition inside a step; plan_mismatch when `call` is older than the last one.
  result<void> begin(call_id call, std::string_view phase, std::uint32_t expected);

  /// To be called before the library is. `kind` is a literal, `count` its elements; both stand in the message.
  /// Errors: not_a_member; wrong_group when no step of this group is open: the caller meant another one, or none;
  /// plan_mismatch for one more than expected.
  result<void> enter(std::string_view kind, std::size_t count);

  /// Errors: plan_mismatch when fewer were issued; illegal_transition outside a step.
  result<void> end();

  state current() const noexcept { return state_; }
  call_id call() const noexcept { return call_; }
  std::string_view phase() const noexcept { return phase_; }
  /// Since the group was made.
  std::uint64_t issued_total() const noexcept { return issued_total_; }

private:
  friend class keeps_invariants<collective_plan_machine>;
  void check_invariants() const noexcept;
  void show_states(state_view& view) const;
  tl::unexpected<failure> broken(fault code, std::string what);
  std::string where() const;

  std::string group_;
  std::uint32_t members_;
  std::uint32_t self_;
  state state_ = state::idle;
  call_id call_{};
  std::string phase_;
  std::uint32_t expected_ = 0;
  std::uint32_t seen_ = 0;
  std::uint64_t issued_total_ = 0;
};

} // namespace troupe::protocols
