#include "actors/serve/cell_steps.hpp"

#include "protocols/serve/fault_points.hpp"
#include "protocols/serve/serve_metrics.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_recorder.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

step_machine::options options_of(const gpu::step_runner::parts& runs) {
  return {.vocabulary = runs.facts.vocabulary,
          .merge = runs.facts.merge,
          .batch_max = runs.batch_max,
          .steps_ahead = runs.steps_ahead};
}

struct step_metrics {
  metric_number busy;
  metric_number steps;
};

/// Nothing: a step that is no request's.
std::optional<step_metrics> metrics_of(plan_kind kind) noexcept {
  switch (kind) {
  case plan_kind::encode:
    return step_metrics{serve_metric::encode_busy, serve_metric::encode_steps};
  case plan_kind::prefill:
    return step_metrics{serve_metric::prefill_busy, serve_metric::prefill_steps};
  case plan_kind::decode:
    return step_metrics{serve_metric::decode_busy, serve_metric::decode_steps};
  case plan_kind::warm:
  case plan_kind::vote:
  case plan_kind::stop:
    break;
  }
  return std::nullopt;
}

} // namespace

cell_steps::cell_steps(const rank_context& rank, parts made_of, const admission_table& board)
    : rank_(rank), cell_(made_of.runs.cell), place_(made_of.runs.place), step_deadline_(made_of.runs.step_deadline),
      board_(board), plans_(std::move(made_of.plans)), machine_(cell_, place_, options_of(made_of.runs)),
      runner_(std::move(made_of.runs), *this) {}

result<void> cell_steps::warm() {
  const auto dropped = [](const effects&) {};
  if (leads())
    return lead(machine_.warm()).map(dropped);
  auto got = [&] {
    base::flight_span waiting{awaiting()};
    return waiting.ends(plans_->await(plan_bytes_, base::now() + step_deadline_));
  }();
  return got.and_then([&] { return decode_payload(plan_bytes_, plan_); })
      .and_then([&] { return follow(); })
      .map(dropped);
}

result<cell_steps::effects> cell_steps::lead(const mesh_plan& plan) {
  if (plans_)
    if (auto told = announce(plan); !told)
      return tl::unexpected<failure>{told.error()};
  TROUPE_FAULT_POINT_OF(serve_fault_points, "executor.announced");
  return perform(plan);
}

result<void> cell_steps::announce(const mesh_plan& plan) {
  plan_bytes_.clear();
  encode_payload(plan, plan_bytes_);
  base::flight_span telling{gpu::record_of(plan, cell_, flight_action::plan_announce)};
  return telling.ends(plans_->announce(plan.call, plan_bytes_, base::now() + step_deadline_));
}

/// A member that has nothing to do until its leader says so.
flight_record cell_steps::awaiting() const noexcept {
  return {.peer = cell_.leader(), .group = cell_.group.value_or(no_group), .action = flight_action::plan_await};
}

result<bool> cell_steps::await(time_point until) {
  auto got = plans_->await(plan_bytes_, until);
  if (!got && got.error().code == fault::timeout)
    return false;
  return got.and_then([&] { return decode_payload(plan_bytes_, plan_); }).map([] { return true; });
}

result<cell_steps::effects> cell_steps::perform(const mesh_plan& plan) {
  base::flight_span step{gpu::record_of(plan, cell_, flight_action::step)};
  outcome_.clear();
  if (plan.kind == plan_kind::vote)
    for (const auto room : plan.rooms)
      outcome_.votes.push_back(static_cast<std::int32_t>(board_.of(room)));
  const auto began = base::now();
  auto done = machine_.begin(plan).and_then([&] { return runner_.run(plan, machine_.work(), outcome_); });
  done = step.ends(std::move(done));
  if (!done)
    return tl::unexpected<failure>{std::move(done.error())};
  const auto ended = base::now();
  count(plan.kind, ended - began);
  return machine_.on_done(plan, outcome_, ended);
}

void cell_steps::count(plan_kind kind, duration took) noexcept {
  if (const auto which = metrics_of(kind)) {
    rank_.counted->add(which->busy, static_cast<std::uint64_t>(took.count()));
    rank_.counted->add(which->steps);
  }
}

void cell_steps::encoded(room_id room, gpu::moment ready) {
  rank_.tell_role(cell_.role, actors::encoded{room, std::move(ready)});
}

void cell_steps::prefilled(const prefill_step& step, gpu::moment ready) {
  rank_.tell_role(cell_.role,
                  actors::prefilled{step.request, step.kv_room, step.decode_cell, step.blocks, std::move(ready)});
}

} // namespace troupe::actors
