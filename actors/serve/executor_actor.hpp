#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include <caf/all.hpp>

#include "actors/rank_context.hpp"
#include "actors/serve/cell_steps.hpp"
#include "actors/serve/serve_events.hpp"
#include "runtime/base/progress_counter.hpp"

namespace troupe::actors {

/// Runs the steps of one cell on one rank, in lockstep with the cell's other ranks.
///
/// A detached actor: it owns the thread on which the cell computes, and may block there. It begins with `run_atom`,
/// once the cell is warm. On the leader, the role's actor sends orders by message, and the effects of `step_machine` go
/// back to it by message. Between two steps the leader looks into its mailbox without waiting; with nothing to compute
/// it waits there. A follower waits for the next plan, and looks into its mailbox now and then. So while sequences are
/// active, one step follows another without a scheduler's wake-up. Tokens go out on a lane of their own (DESIGN
/// decision 3).
///
/// Orders are effects of the role's machine: room_vote, run_tower, run_prefill, stop_prefill, join_batch, leave_batch.
/// `stop_atom` ends the actor; a leader announces a last plan first. A `stop_atom` that comes in the middle of a step
/// waits for the end of the step, since the other ranks would be left in a collective (C9).
///
/// Contract: A9, B15, B23, C1, C8, C9, C15, E10, E19, K13.
/// Errors: one of a step or of `token_sink`, or an exception, ends the rank and is stated as the cause.
class executor_actor final : public caf::blocking_actor {
public:
  /// On the executor's thread: hands the tokens of a step on and returns.
  using token_sink = std::function<protocols::result<void>(const protocols::tokens&)>;

  struct options {
    token_sink tokens;
    /// Shows the watchdog that the thread is at work between steps: it takes orders or hands tokens on. During a step
    /// the sign is at rest, and the flight recorder shows the progress.
    base::progress_counter turn;
    protocols::duration nap = std::chrono::seconds{1}; ///< the longest wait before it shows a sign of life again
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
  protocols::result<void> obeyed_; ///< the error of the first order that failed
  bool stopping_ = false;
};

} // namespace troupe::actors
