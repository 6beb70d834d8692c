// Decides outside protocols: only the thread whose calls block learns how they ended

#include "actors/serve/executor_actor.hpp"

#include "protocols/serve/encode_machine.hpp"
#include "protocols/serve/fault_points.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/uncaught.hpp"

namespace troupe::actors {

using namespace protocols;

executor_actor::executor_actor(caf::actor_config& config, const rank_context& rank, std::shared_ptr<cell_steps> steps,
                               options how)
    : caf::blocking_actor(config), rank_(rank), steps_(std::move(steps)), how_(std::move(how)), orders_(orders()) {}

/// Left to itself an exception would end the actor alone, and everybody who waits for it would wait for their
/// deadlines. One that is no std::exception ends the process.
void executor_actor::act() noexcept {
  const auto where = std::string{protocols::name(steps_->cell().role)} + " executor";
  try {
    bool runs = false;
    receive([&](run_atom) { runs = true; }, [](stop_atom) {});
    if (!runs)
      return;
    const auto ended = steps_->leads() ? lead() : follow();
    how_.turn.set(false);
    if (!ended)
      rank_.fail_rank(ended.error(), where);
  } catch (const std::exception& problem) {
    rank_.fail_rank(base::failure_of(problem), where);
  }
}

result<void> executor_actor::lead() {
  while (true) {
    if (auto taken = take_orders(); !taken)
      return taken;
    const auto* const plan = steps_->machine().next(base::now());
    if (plan == nullptr) {
      rest();
      continue;
    }
    auto done = step([&] { return steps_->lead(*plan); });
    if (!done)
      return tl::unexpected<failure>{done.error()};
    auto handed_on = hand_on();
    tell(*std::move(done));
    if (plan->kind == plan_kind::decode)
      TROUPE_FAULT_POINT_OF(serve_fault_points, "decode.emitted");
    if (!handed_on || plan->kind == plan_kind::stop)
      return handed_on;
  }
}

result<void> executor_actor::follow() {
  while (true) {
    if (auto planned = await_plan(); !planned || stopping_)
      return planned;
    TROUPE_FAULT_POINT_OF(serve_fault_points, "executor.planned");
    if (auto done = step([&] { return steps_->follow(); }); !done)
      return tl::unexpected<failure>{done.error()};
    if (steps_->awaited().kind == plan_kind::stop)
      return {};
  }
}

result<void> executor_actor::await_plan() {
  base::flight_span waiting{steps_->awaiting()};
  while (true) {
    how_.turn.set(true);
    auto came = steps_->await(base::now() + how_.nap);
    if (!came)
      return waiting.ends(result<void>{tl::unexpected<failure>{came.error()}});
    if (*came)
      return {};
    if (auto taken = take_orders(); !taken || stopping_)
      return taken;
  }
}

/// A step may take its time as long as it gets on, which the flight recorder tells.
template <class Step>
result<executor_actor::effects> executor_actor::step(const Step& run) {
  how_.turn.set(false);
  auto done = run();
  how_.turn.set(true);
  return done;
}

// ---- the mailbox --------------------------------------------------------------------------------------------------

caf::behavior executor_actor::orders() {
  return {
      [this](room_vote& order) { obey(steps_->machine().on_vote(std::move(order))); },
      [this](const encode_machine::run_tower& order) { obey(steps_->machine().on_encode(order.item)); },
      [this](prefill_leader_machine::run_prefill& order) { obey(steps_->machine().on_prefill(std::move(order))); },
      [this](const prefill_leader_machine::stop_prefill& order) { obey(steps_->machine().on_leave(order.request)); },
      [this](decode_leader_machine::join_batch& order) { obey(steps_->machine().on_join(std::move(order))); },
      [this](const decode_leader_machine::leave_batch& order) { obey(steps_->machine().on_leave(order.request)); },
      [this](stop_atom) {
        stopping_ = true;
        steps_->machine().on_stop();
      },
  };
}

/// Waits for nothing, and allocates nothing where there is no message: this is between two steps.
result<void> executor_actor::take_orders() {
  how_.turn.set(true);
  while (has_next_message() && obeyed_) {
    const auto message = dequeue();
    TROUPE_ASSERT("orders", orders_(message->content()));
  }
  return obeyed_;
}

void executor_actor::obey(result<effects> outcome) {
  obeyed_ = outcome ? hand_on() : result<void>{tl::unexpected<failure>{outcome.error()}};
  if (outcome)
    tell(*std::move(outcome));
}

/// Contract: K13. CAF's own wait goes by the system's clock: where that is set back, nobody would turn.
void executor_actor::rest() {
  how_.turn.set(true);
  // Woken or not: its caller looks into the mailbox either way.
  (void)mailbox().synchronized_await(mtx_, cv_, base::now() + how_.nap);
}

// ---- what comes of it ---------------------------------------------------------------------------------------------

result<void> executor_actor::hand_on() {
  auto& machine = steps_->machine();
  if (machine.emitted().events.empty())
    return {};
  auto handed_on = how_.tokens(machine.emitted());
  machine.handed_on();
  return handed_on;
}

void executor_actor::tell(effects what) {
  for (auto& effect : what)
    std::visit([this](auto& each) { rank_.tell_role(steps_->cell().role, std::move(each)); }, effect);
}

} // namespace troupe::actors
