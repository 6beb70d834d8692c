#pragma once

#include <optional>
#include <vector>

#include "actors/rank_context.hpp"
#include "actors/serve/admission_table.hpp"
#include "actors/serve/serve_events.hpp"
#include "gpu/group.hpp"
#include "gpu/serve/step_runner.hpp"
#include "protocols/serve/step_machine.hpp"

namespace troupe::actors {

/// The steps of a cell on one rank, one after another: the machine decides what comes next, the plan channel tells the
/// other ranks, the runner carries it out. The runner's reports from the middle of a step go to the role's actor.
/// Contract: A9, C9.
/// Ownership: `rank` and `board` outlive it. Threads: one at a time. Errors: those of the step; the rank cannot go on.
class cell_steps final : private gpu::step_events {
public:
  struct parts {
    gpu::step_runner::parts runs;
    std::optional<gpu::plan_channel> plans; ///< absent for a cell of one rank
  };
  using effects = protocols::step_machine::effects;

  cell_steps(const rank_context& rank, parts made_of, const admission_table& board);
  cell_steps(const cell_steps&) = delete;
  cell_steps& operator=(const cell_steps&) = delete;

  bool leads() const noexcept { return place_ == 0; }
  const protocols::cell_plan& cell() const noexcept { return cell_; }
  protocols::step_machine& machine() noexcept { return machine_; }

  /// Runs the first step: every collective and the smallest shapes once. On every rank, before any other step.
  protocols::result<void> warm();

  /// Leader: announces a plan of the machine, then performs it.
  protocols::result<effects> lead(const protocols::mesh_plan& plan);

  /// Follower: the flight record for the wait for a plan.
  protocols::flight_record awaiting() const noexcept;
  /// Follower: reads the next plan. False: none has come before `until`.
  protocols::result<bool> await(protocols::time_point until);
  const protocols::mesh_plan& awaited() const noexcept { return plan_; }
  /// Follower: performs the plan that `await` has read.
  protocols::result<effects> follow() { return perform(plan_); }

private:
  protocols::result<void> announce(const protocols::mesh_plan& plan);
  protocols::result<effects> perform(const protocols::mesh_plan& plan);
  void count(protocols::plan_kind kind, protocols::duration took) noexcept;
  void encoded(protocols::room_id room, gpu::moment ready) override;
  void prefilled(const protocols::prefill_step& step, gpu::moment ready) override;

  const rank_context& rank_;
  protocols::cell_plan cell_;
  std::uint32_t place_;
  protocols::duration step_deadline_;
  const admission_table& board_;
  std::optional<gpu::plan_channel> plans_;
  protocols::step_machine machine_;
  gpu::step_runner runner_;
  protocols::step_outcome outcome_;
  protocols::mesh_plan plan_; ///< follower: the last plan read
  std::vector<std::byte> plan_bytes_;
};

} // namespace troupe::actors
