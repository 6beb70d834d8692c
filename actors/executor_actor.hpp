#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include <caf/all.hpp>

#include "actors/cell_steps.hpp"
#include "actors/rank_context.hpp"
#include "runtime/base/busy_sign.hpp"

namespace troupe::actors {

/// Runs the steps of one cell on one rank, in lockstep with the cell's other ranks.
///
/// A detached actor: it owns the thread on which the cell computes, and may block there. It begins with `run_atom`,
/// once the cell is warm. The leader's role actor orders by message; what its machine decides goes back to the role's
/// actor by message. Between two steps the leader looks into its mailbox without waiting, and waits there when there is
/// nothing to do. A follower waits for the next plan, and looks into its mailbox now and then. So while sequences are
/// active a step follows the other without a scheduler's wake-up, and tokens go out on a lane of their own (DESIGN
/// decision 3).
///
/// Orders are what the role's machine wants done: room_vote, run_tower, run_prefill, stop_prefill, join_batch,
/// leave_batch. `stop_atom` ends it, a leader after a last plan; one that comes in the middle of a step waits for its
/// end, since members would be left in a collective (C9).
///
/// Contract: A9, B15, B23, C1, C8, C9, C15, E10, E19, K13.
/// An error of a step, of handing tokens on, or an exception, ends the rank with its words.
class executor_actor final : public caf::blocking_actor {
public:
  /// On the executor's thread: hands the tokens of a step on and returns.
  using token_sink = std::function<protocols::result<void>(std::span<const protocols::token_event>)>;

  struct options {
    token_sink tokens;
    /// At work while it is at something that is no step: handing tokens on, taking an order. Steps are seen by the
    /// flight recorder.
    base::busy_sign turn;
    protocols::duration nap = std::chrono::seconds{1}; ///< it turns at least so often while it waits
  };

  executor_actor(caf::actor_config& config, const rank_context& rank, std::shared_ptr<cell_steps> steps, options how);

  void act() noexcept override;
  const char* name() const override { return "executor"; }

private:
  using effects = protocols::step_machine::effects;

  protocols::result<void> lead();
  protocols::result<void> follow();
  caf::behavior orders();
  protocols::result<void> take_orders();
  void obey(protocols::result<effects> outcome);
  void rest();
  protocols::result<void> await_plan();
  template <class Step>
  protocols::result<effects> step(const Step& run);
  protocols::result<void> hand_on();
  void tell(effects what);

  const rank_context& rank_;
  std::shared_ptr<cell_steps> steps_;
  options how_;
  caf::behavior orders_;
  protocols::result<void> obeyed_; ///< the first order that could not be
  bool stopping_ = false;
};

} // namespace troupe::actors
