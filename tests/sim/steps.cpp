#include "tests/sim/steps.hpp"

#include "protocols/serve/roles.hpp"
#include "protocols/wire/codec.hpp"
#include "tests/sim/forward.hpp"
#include "tests/sim/serve_node.hpp"
#include "tests/sim/simulated_model.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

thread thread_of_steps(role_kind role) {
  if (role == serve_role::encode)
    return thread::encode_steps;
  return role == serve_role::prefill ? thread::prefill_steps : thread::decode_steps;
}

} // namespace

executor::executor(process& of, const cell_plan& cell_of, std::uint32_t steps_ahead)
    : rank(of), cell(cell_of), place(*cell_of.place_of(of.self)), layout_(layout_in(of.all.cluster, cell_of, place)),
      pool_(cell_of.role == serve_role::prefill ? area::kv_prefill : area::kv_decode),
      machine_(cell_of, place,
               step_machine::options{.vocabulary = vocabulary,
                                     .merge = of.all.cluster.facts.merge,
                                     .batch_max = of.all.spec().limits.batch_max,
                                     .steps_ahead = steps_ahead}),
      batch_(of.all.spec().limits.batch_max) {}

void executor::join(std::shared_ptr<cell_company> company) {
  company_ = std::move(company);
  company_->members[place] = this;
}

// ---- orders -------------------------------------------------------------------------------------------------------

template <class Order>
void executor::order(Order what) {
  rank.hand(thread_of_steps(cell.role), [this, what = std::move(what)]() mutable {
    orders_.push_back([this, what = std::move(what)]() mutable -> result<step_machine::effects> {
      if constexpr (std::is_same_v<Order, room_vote>)
        return machine_.on_vote(std::move(what));
      else if constexpr (std::is_same_v<Order, encode_machine::run_tower>)
        return machine_.on_encode(what.item);
      else if constexpr (std::is_same_v<Order, prefill_leader_machine::run_prefill>)
        return machine_.on_prefill(std::move(what));
      else if constexpr (std::is_same_v<Order, decode_leader_machine::join_batch>)
        return machine_.on_join(std::move(what));
      else
        return machine_.on_leave(what.request);
    });
    look();
  });
}

template void executor::order(room_vote);
template void executor::order(encode_machine::run_tower);
template void executor::order(prefill_leader_machine::run_prefill);
template void executor::order(prefill_leader_machine::stop_prefill);
template void executor::order(decode_leader_machine::join_batch);
template void executor::order(decode_leader_machine::leave_batch);

/// Between two steps.
void executor::obey_orders() {
  while (!orders_.empty()) {
    auto outcome = orders_.front()();
    orders_.pop_front();
    if (!outcome)
      return fail(outcome.error());
    if (!machine_.emitted().events.empty()) {
      rank.serves->hand_tokens(machine_.emitted());
      machine_.handed_on();
    }
    rank.serves->stepped(cell.role, *std::move(outcome));
  }
}

void executor::run() {
  runs_ = true;
  look();
}

void executor::look() {
  if (call_ || !runs_)
    return;
  if (leads()) {
    obey_orders();
    if (const auto* const next = machine_.next(rank.now())) {
      check_wanted(*next);
      announce(*next);
    }
  } else if (!plans_.empty()) {
    const auto plan = std::move(plans_.front());
    plans_.pop_front();
    begin(plan);
  }
}

// ---- steps --------------------------------------------------------------------------------------------------------

void executor::check_wanted(const mesh_plan& plan) {
  if (plan.kind == plan_kind::prefill)
    rank.all.service.on_work(rank, plan.prefill.request, "a piece of the prompt");
  if (plan.kind != plan_kind::decode)
    return;
  for (const auto request : plan.decode.leaves)
    steps_for_.erase(request);
  for (const auto& who : plan.decode.joins)
    steps_for_.insert(who.request);
  for (const auto request : steps_for_)
    rank.all.service.on_work(rank, request, "a step");
}

/// What the others hear is what the bytes say, so the leader too goes by them.
void executor::announce(const mesh_plan& plan) {
  std::vector<std::byte> bytes;
  encode_payload(plan, bytes);
  for (auto* const member : company_->members)
    if (member != nullptr && member != this)
      member->rank.hand(thread_of_steps(cell.role), [member, bytes] { member->hear_plan(bytes); });
  mesh_plan told;
  if (const auto read = decode_payload(bytes, told); !read)
    return fail(read.error());
  begin(told);
}

void executor::hear_plan(const std::vector<std::byte>& bytes) {
  mesh_plan plan;
  if (const auto read = decode_payload(bytes, plan); !read)
    return fail(read.error());
  auto& all = rank.all;
  const bool chooses = plan.kind == plan_kind::decode && cell.pipeline_parallel == 1 &&
                       plan.decode.ids.size() > plan.decode.joins.size();
  if (chooses && all.dice.chance(all.sky.wrong)) { // as if it had chosen otherwise in the step before
    all.judge.on_hurt(rank.self);
    all.past.note([&] { return rank.label + " has chosen another token than its leader"; }, 24, rank.self.value);
    plan.decode.ids.front() ^= 1;
  }
  plans_.push_back(std::move(plan));
  look();
}

void executor::begin(const mesh_plan& plan) {
  call_ = plan.call;
  outcome_.clear();
  if (plan.kind == plan_kind::vote)
    for (const auto room : plan.rooms) {
      const auto known = board_.find(room);
      outcome_.votes.push_back(static_cast<std::int32_t>(known == board_.end() ? admission::failed : known->second));
    }
  if (const auto begun = machine_.begin(plan); !begun)
    return fail(begun.error());
  enter(plan);
}

void executor::enter(const mesh_plan& plan) {
  auto& all = rank.all;
  auto& call = company_->calls[plan.call];
  if (call.entered.empty()) {
    call.plan = plan;
    call.entered.resize(company_->members.size());
  } else if (!(call.plan == plan))
    return all.past.violate("lockstep", rank.label + " enters another step than its cell");
  call.entered[place] = true;
  if (std::ranges::find(call.entered, false) != call.entered.end()) {
    rank.wake(all.ms(all.spec().timeouts.collective_ms), [this, id = plan.call] {
      const auto found = company_->calls.find(id);
      if (found == company_->calls.end() || found->second.over)
        return;
      std::string missing;
      for (std::size_t i = 0; i < found->second.entered.size(); ++i)
        if (!found->second.entered[i] || company_->members[i]->rank.stopped())
          missing += " rank " + std::to_string(cell.ranks[i].value) + " ";
      if (!missing.empty()) // otherwise all compute, which has no such deadline
        fail({fault::timeout, "waits for" + missing});
    });
    return;
  }
  call.seen = forward{*company_, call}.look();
  all.past.note(
      [&] {
        static constexpr const char* kinds[] = {"", "warm", "vote", "encode", "prefill", "decode", "stop"};
        return std::string{name(cell.role)} + " cell of " + rank.label + " begins call " +
               std::to_string(plan.call.value) + " (" + kinds[static_cast<int>(plan.kind)] + ")";
      },
      5, cell.id.value, plan.call.value, static_cast<int>(plan.kind));
  if (all.dice.chance(all.sky.no_memory))
    return suffer(*company_->members[all.dice.below(company_->members.size())], {fault::no_memory, "in a step"});
  if (all.dice.chance(all.sky.hang))
    return hang(plan.call, *company_->members[all.dice.below(company_->members.size())]);
  const auto compute = plan.kind == plan_kind::vote ? all.sky.frame : all.sky.compute;
  const auto more = all.dice.chance(all.sky.slow_step) ? all.dice.around(all.sky.slow_by) : duration{};
  all.time.after(all.delay(compute) + more, [this, id = plan.call] { finish(id); });
}

/// The rank fails in the step, and the others wait for it.
void executor::suffer(executor& who, failure what) {
  rank.all.judge.on_hurt(who.rank.self);
  rank.all.past.note([&] { return who.rank.label + " fails in a step: " + to_string(what); }, 22, who.rank.self.value);
  who.fail(what);
}

/// Its watchdog sees it in time, and the others have a deadline for what they wait for. When all heals, it comes back.
void executor::hang(call_id id, executor& who) {
  auto& all = rank.all;
  all.judge.on_hurt(who.rank.self);
  who.rank.hangs = true;
  all.past.note([&] { return who.rank.label + " does not come back from a step"; }, 23, who.rank.self.value);
  for (auto* const member : company_->members)
    if (member != &who)
      member->rank.wake(all.ms(all.spec().timeouts.collective_ms), [member, &who, id] {
        const auto found = member->company_->calls.find(id);
        if (found != member->company_->calls.end() && !found->second.over && who.rank.hangs)
          member->fail({fault::timeout, "waits for rank " + std::to_string(who.rank.self.value)});
      });
  all.at_healing.push_back([this, id, &who] {
    who.rank.hangs = false;
    finish(id);
  });
}

/// All ranks of the cell must be there to its end.
void executor::finish(call_id id) {
  auto& all = rank.all;
  const auto company = company_;
  auto& call = company->calls.at(id);
  for (const auto* const member : company->members) {
    if (member == nullptr || !member->rank.running)
      return;
    if (member->rank.stopped())
      return all.time.after(1ms, [this, id] { finish(id); });
  }
  if (call.over)
    return;
  forward{*company, call}.run();
  call.over = true;
  for (auto* const member : company->members)
    member->rank.hand(thread_of_steps(cell.role), [member, plan = call.plan] { member->done(plan); });
  company->calls.erase(company->calls.begin(), company->calls.find(id)); // kept: the newest
}

void executor::done(const mesh_plan& plan) {
  auto told = machine_.on_done(plan, outcome_, rank.now());
  if (leads() && !machine_.emitted().events.empty()) {
    rank.serves->hand_tokens(machine_.emitted());
    machine_.handed_on();
  }
  rank.serves->stepped(cell.role, std::move(told));
  call_.reset();
  look();
}

void executor::lose(rank_id member) {
  if (call_ || !leads())
    fail({fault::peer_gone, "rank " + std::to_string(member.value) + " of the cell has left"});
}

void executor::fail(const failure& cause) {
  rank.fail(cause, std::string{name(cell.role)} + " executor");
}

} // namespace troupe::sim
