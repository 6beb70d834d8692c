#pragma once

#include <optional>
#include <string>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/fault.hpp"

namespace troupe::protocols {

/// One rank's own life: which order of the supervisor may come now, and what it may say of itself.
/// A step of the start-up is taken when the supervisor says so, never because this rank is done with the one before: so
/// all ranks enter the collectives of `grouped` and `warm` together (B20, G3).
/// Contract: A16, B1, C2, C3, C10.
/// Errors: illegal_transition; the caller reports it and leaves. Final states take nothing more.
class rank_life_machine {
public:
  /// Everybody can be reached: state your facts.
  result<void> on_roster();
  /// Errors: parity_mismatch too, with the difference; the rank has failed then.
  result<void> on_verdict(const verdict& judged);
  /// Begin the step to `order.next`.
  result<void> on_proceed(const proceed& order);
  /// The step is done. Returns what to tell the supervisor; nothing once the rank has been told to leave.
  result<std::optional<progress>> on_reached(life_state here, std::string detail = {});
  /// From any state: a cluster may be ended while it starts. An abort may follow a drain; a repeated order is none.
  result<void> on_shutdown(const shutdown& order);
  /// Everything that it had is finished; the process may end.
  result<void> on_left();
  void fail() noexcept { at_ = life_state::failed; }

  life_state current() const noexcept { return at_; }
  /// The state that the rank has been told to reach; equal to `current` while it waits for the others.
  life_state heading() const noexcept { return heading_; }
  bool aborting() const noexcept { return aborting_; }

private:
  tl::unexpected<failure> illegal(std::string_view event) const;

  life_state at_ = life_state::spawned;
  life_state heading_ = life_state::joined; ///< the first step needs no order
  bool aborting_ = false;
};

/// Whether a rank that makes its edges to newcomers leaves that for this order: one that begins the next recovery or
/// the end. The supervisor waits for word of every admission that it has ordered, so any other order is obeyed beside
/// it.
bool supersedes_readmission(message_type order) noexcept;

} // namespace troupe::protocols
