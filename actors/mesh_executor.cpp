#include "actors/mesh_executor.hpp"

#include <algorithm>

#include "protocols/codec.hpp"
#include "protocols/late_step.hpp"
#include "protocols/prompt_digest.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_recorder.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

template <class... Handlers>
struct overloaded : Handlers... {
  using Handlers::operator()...;
};
template <class... Handlers>
overloaded(Handlers...) -> overloaded<Handlers...>;

} // namespace

mesh_executor::mesh_executor(parts made_of, events calls, admission_board& board)
    : parts_(std::move(made_of)), calls_(std::move(calls)), board_(board), place_(parts_.place),
      stage_(parts_.cell.stage_of(parts_.place)) {
  rows_.reserve(parts_.batch_max);
  batch_.reserve(parts_.batch_max);
  positions_.reserve(parts_.batch_max);
  emitted_.reserve(std::size_t{parts_.batch_max} * (1 + parts_.steps_ahead));
}

result<void> mesh_executor::order(any_order what) {
  {
    const std::lock_guard lock{mutex_};
    if (orders_.size() >= limits::executor_queue_max)
      return fail(fault::queue_full, "executor");
    orders_.push_back(std::move(what));
  }
  ordered_.notify_one();
  return {};
}

void mesh_executor::stop() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  ordered_.notify_one();
}

result<void> mesh_executor::run() {
  auto ended = leads() ? lead() : follow();
  parts_.turn.set(false);
  return ended;
}

result<void> mesh_executor::warm() {
  if (!leads()) {
    auto got = [&] {
      base::flight_span waiting{awaiting()};
      return waiting.ends(parts_.plans->await(plan_bytes_, base::now() + parts_.step_deadline));
    }();
    if (!got)
      return got;
    if (auto read = decode_payload(plan_bytes_, plan_); !read)
      return read;
    return perform(plan_);
  }
  plan_.kind = plan_kind::warm;
  return announce_and_perform();
}

// ---- loops --------------------------------------------------------------------------------------------------------

/// Contract: K13. It turns while it waits, so that a thread that does not wake for its orders is found.
std::optional<mesh_executor::any_order> mesh_executor::next_order(bool wait) {
  parts_.turn.set(true);
  std::unique_lock lock{mutex_};
  const auto ordered = [&] { return stopping_ || !orders_.empty(); };
  while (wait && !ordered_.wait_for(lock, parts_.nap, ordered))
    parts_.turn.set(true);
  if (stopping_ || orders_.empty())
    return std::nullopt;
  auto next = std::move(orders_.front());
  orders_.pop_front();
  return next;
}

/// An order to stop that comes in the middle of a step waits for its end: members would be left in a collective (C9).
result<void> mesh_executor::lead() {
  while (true) {
    while (auto next = next_order(rows_.empty() && joining_.empty()))
      if (auto done = obey(*std::move(next)); !done)
        return done;
    {
      const std::lock_guard lock{mutex_};
      if (stopping_)
        break;
    }
    if (!rows_.empty() || !joining_.empty())
      if (auto done = step_batch(); !done)
        return done;
  }
  plan_.kind = plan_kind::stop;
  return announce_and_perform();
}

result<void> mesh_executor::follow() {
  while (true) {
    const auto planned = await_plan();
    if (!planned)
      return tl::unexpected<failure>{planned.error()};
    if (!*planned)
      return {};
    if (auto read = decode_payload(plan_bytes_, plan_); !read)
      return read;
    TROUPE_FAULT_POINT("executor.planned");
    if (auto done = perform_in_pause(); !done)
      return done;
    if (plan_.kind == plan_kind::stop)
      return {};
  }
}

/// A member that has nothing to do until its leader says so.
flight_record mesh_executor::awaiting() const noexcept {
  return {
      .peer = parts_.cell.leader(), .group = parts_.cell.group.value_or(no_group), .action = flight_action::plan_await};
}

result<bool> mesh_executor::await_plan() {
  base::flight_span waiting{awaiting()};
  while (true) {
    parts_.turn.set(true);
    auto got = parts_.plans->await(plan_bytes_, base::now() + parts_.nap);
    if (got)
      return true;
    if (got.error().code != fault::timeout)
      return waiting.ends(result<bool>{tl::unexpected<failure>{got.error()}});
    const std::lock_guard lock{mutex_};
    if (stopping_)
      return false;
  }
}

/// A step may take its time as long as it gets on, which the flight recorder tells.
struct mesh_executor::pause {
  base::busy_sign& turn;
  bool was = turn.set(false);
  ~pause() { turn.set(was); }
};

result<void> mesh_executor::perform_in_pause() {
  const pause stepping{parts_.turn};
  return perform(plan_);
}

result<void> mesh_executor::announce_and_perform() {
  const pause stepping{parts_.turn};
  plan_.call = next_call_;
  next_call_ = next_call_.next();
  if (parts_.plans) {
    plan_bytes_.clear();
    encode_payload(plan_, plan_bytes_);
    base::flight_span telling{about(flight_action::plan_announce)};
    if (auto sent = telling.ends(parts_.plans->announce(plan_.call, plan_bytes_, base::now() + parts_.step_deadline));
        !sent)
      return sent;
  }
  TROUPE_FAULT_POINT("executor.announced");
  return perform(plan_);
}

flight_phase mesh_executor::phase_of(plan_kind kind) noexcept {
  switch (kind) {
  case plan_kind::warm:
    return flight_phase::warm;
  case plan_kind::vote:
    return flight_phase::vote;
  case plan_kind::encode:
    return flight_phase::encode;
  case plan_kind::prefill:
    return flight_phase::prefill;
  case plan_kind::decode:
    return flight_phase::decode;
  case plan_kind::stop:
    return flight_phase::stop;
  }
  return flight_phase::other;
}

/// The plan at hand, as the flight recorder notes it.
flight_record mesh_executor::about(flight_action action) const noexcept {
  flight_record what{.call = plan_.call,
                     .group = parts_.cell.group.value_or(no_group),
                     .action = action,
                     .phase = phase_of(plan_.kind)};
  if (plan_.kind == plan_kind::prefill)
    what.item = plan_.prefill.request.value;
  return what;
}

result<void> mesh_executor::perform(const mesh_plan& plan) {
  base::flight_span step{about(flight_action::step)};
  auto done = [&]() -> result<void> {
    switch (plan.kind) {
    case plan_kind::warm:
      return perform_warm(plan);
    case plan_kind::vote:
      return perform_vote(plan);
    case plan_kind::encode:
      return perform_encode(plan);
    case plan_kind::prefill:
      return perform_prefill(plan);
    case plan_kind::decode:
      return perform_decode(plan);
    case plan_kind::stop:
      return {};
    }
    return fail(fault::bad_value, "plan kind " + std::to_string(static_cast<int>(plan.kind)));
  }();
  completed_.fetch_add(1, std::memory_order_relaxed);
  note_captures();
  // A device does not know what it was asked for.
  if (!done && (done.error().code == fault::executor_failed || done.error().code == fault::timeout))
    done = fail(done.error().code, std::string{name(phase_of(plan.kind))} + ", call " +
                                       std::to_string(plan.call.value) + ": " + done.error().what);
  return step.ends(find_late(plan, std::move(done)));
}

/// A step that did not end in time because another member's GPU has not come ends by its name, here and in the record.
result<void> mesh_executor::find_late(const mesh_plan& plan, result<void> done) {
  if (done || !parts_.mesh)
    return done;
  auto judged = judge_late_step(done.error(), parts_.mesh->plan(), parts_.mesh->awaited());
  if (!judged.peer)
    return done;
  base::flight_span waiting{{.call = plan.call,
                             .peer = *judged.peer,
                             .group = parts_.mesh->plan().id,
                             .operation = static_cast<std::uint16_t>(collective_kind::all_reduce_sum),
                             .action = flight_action::collective,
                             .phase = phase_of(plan.kind)}};
  (void)waiting.ends(std::move(done)); // late is what it is; whose fault that is stands beside
  return tl::unexpected<failure>{std::move(judged.cause)};
}

gpu::models::capture_counts mesh_executor::captures() const noexcept {
  auto counts = parts_.vision ? parts_.vision->captures() : gpu::models::capture_counts{};
  if (running_) {
    counts.graphs += running_->captures().graphs;
    counts.eager += running_->captures().eager;
  }
  return counts;
}

void mesh_executor::note_captures() noexcept {
  const auto now = captures();
  if (now == noted_)
    return;
  base::flight().captured(std::int64_t{now.graphs} - noted_.graphs, now.eager - noted_.eager);
  noted_ = now;
}

// ---- the leader's orders ------------------------------------------------------------------------------------------

result<void> mesh_executor::obey(any_order what) {
  return std::visit(overloaded{
                        [&](const vote_order& order) -> result<void> {
                          plan_.kind = plan_kind::vote;
                          plan_.rooms = order.rooms;
                          if (auto done = announce_and_perform(); !done)
                            return done;
                          std::vector<admission> minimum;
                          for (const auto value : votes_)
                            minimum.push_back(static_cast<admission>(value));
                          calls_.on_voted(order.request, std::move(minimum));
                          return {};
                        },
                        [&](const encode_order& order) -> result<void> {
                          const auto began = base::now();
                          plan_.kind = plan_kind::encode;
                          plan_.pictures = {order.item};
                          if (auto done = announce_and_perform(); !done)
                            return done;
                          calls_.on_tower_ended(order.item.room, began);
                          return {};
                        },
                        [&](const prefill_order& order) -> result<void> { return prefill_in_pieces(order.what); },
                        [&](const join_order& order) -> result<void> { return enter(order); },
                        [&](const leave_order& order) -> result<void> {
                          drop(order.request);
                          return {};
                        },
                    },
                    std::move(what));
}

/// A long prompt runs in pieces, so that a step's memory is bounded and one that nobody wants any more stops soon.
result<void> mesh_executor::prefill_in_pieces(const prefill_leader_machine::run_prefill& order) {
  const auto began = base::now();
  const auto request = order.work.request;
  const auto& prompt = order.work.prompt;
  // Before the first collective: members do as the plan says (K8).
  if (const auto problem = judge(prompt)) {
    calls_.on_given_up(request, *problem, false);
    return {};
  }
  const auto where = positions_of(prompt, order.work.pictures, std::max(parts_.facts.merge, 1u));
  for (std::uint32_t begin = 0; begin < prompt.size(); begin += limits::prefill_chunk_tokens) {
    if (told_to_leave(request)) {
      calls_.on_given_up(request, {fault::cancelled, {}}, false);
      return {};
    }
    plan_piece(order, where, begin);
    if (auto done = announce_and_perform(); !done)
      return done;
  }
  if (chosen_.front() == gpu::models::running_batch::not_finite)
    calls_.on_given_up(request, not_finite(0), true);
  else
    calls_.on_first_token(request, chosen_.front(), where.delta, prompt_digest(prompt), began);
  return {};
}

void mesh_executor::plan_piece(const prefill_leader_machine::run_prefill& order, const prompt_positions& where,
                               std::uint32_t begin) {
  const auto& prompt = order.work.prompt;
  const auto whole = static_cast<std::uint32_t>(prompt.size());
  const auto end = std::min(whole, begin + limits::prefill_chunk_tokens);
  plan_.kind = plan_kind::prefill;
  auto& piece = plan_.prefill;
  piece.request = order.work.request;
  piece.kv_room = order.work.kv_room;
  piece.ids.assign(prompt.begin() + begin, prompt.begin() + end);
  piece.positions.assign(where.positions.begin() + begin, where.positions.begin() + end);
  piece.begin = begin;
  piece.last = end == whole;
  piece.blocks = order.blocks;
  piece.decode_cell = order.work.decode_cell;
  piece.sampling = order.work.sampling;
  piece.pictures.clear();
  for (std::size_t i = 0; i < order.work.pictures.size(); ++i) {
    const auto& picture = order.work.pictures[i];
    if (picture.first_token < end && picture.first_token + picture.tokens > begin)
      piece.pictures.push_back({picture.first_token, picture.tokens, order.rows[i]});
  }
}

std::optional<failure> mesh_executor::judge(std::span<const token_id> tokens) const {
  const auto vocabulary = static_cast<std::int64_t>(parts_.facts.vocabulary);
  const auto bad = std::ranges::find_if(tokens, [&](token_id id) { return id < 0 || id >= vocabulary; });
  if (bad == tokens.end())
    return std::nullopt;
  return failure{fault::invalid_request, "token " + std::to_string(*bad) + " at " +
                                             std::to_string(bad - tokens.begin()) + "; the model has " +
                                             std::to_string(vocabulary)};
}

failure mesh_executor::not_finite(std::uint32_t answer_index) const {
  const auto& cell = parts_.cell;
  const auto chooser = cell.ranks[std::size_t{cell.pipeline_parallel - 1} * cell.tensor_parallel];
  return {fault::not_finite,
          "token " + std::to_string(answer_index) + " of the answer, rank " + std::to_string(chooser.value)};
}

result<void> mesh_executor::enter(const join_order& order) {
  const auto& join = order.what;
  const auto request = join.sequence.request;
  if (const auto problem = judge({&join.first_token, 1})) {
    calls_.on_given_up(request, *problem, true);
    calls_.on_left(request);
    return {};
  }
  row one{.what = join.sequence,
          .context = join.sequence.context,
          .newest = join.first_token,
          .place = 0,
          .entered = 0,
          .answered = 1,
          .max_tokens = join.max_tokens,
          .end_tokens = join.end_tokens,
          .ended = false,
          .leaving = false};
  const bool ends = std::find(one.end_tokens.begin(), one.end_tokens.end(), one.newest) != one.end_tokens.end();
  const auto finish = ends ? finish_reason::stop : one.max_tokens <= 1 ? finish_reason::length : finish_reason::none;
  const token_event first{request, 0, one.newest, finish};
  if (auto told = calls_.on_tokens({&first, 1}); !told)
    return told;
  if (finish != finish_reason::none)
    calls_.on_left(request);
  else
    joining_.push_back(std::move(one));
  return {};
}

bool mesh_executor::told_to_leave(request_id request) {
  const std::lock_guard lock{mutex_};
  return std::erase_if(orders_, [&](const any_order& each) {
           const auto* const leave = std::get_if<leave_order>(&each);
           return leave != nullptr && leave->request == request;
         }) > 0;
}

void mesh_executor::drop(request_id request) {
  for (auto& one : rows_)
    if (one.what.request == request)
      one.leaving = true;
  const auto queued =
      std::find_if(joining_.begin(), joining_.end(), [&](const row& one) { return one.what.request == request; });
  if (queued != joining_.end()) {
    joining_.erase(queued);
    calls_.on_left(request);
  }
}

/// One token for every active sequence. Those that ended or were told to go leave with this plan, those that were
/// handed over since the last one enter with it.
result<void> mesh_executor::step_batch() {
  plan_.kind = plan_kind::decode;
  auto& step = plan_.decode;
  step.leaves.clear();
  step.joins.clear();
  step.ids.clear();
  for (const auto& one : rows_) {
    if (one.leaving)
      step.leaves.push_back(one.what.request);
    else
      step.ids.push_back(one.newest);
  }
  while (!joining_.empty() && step.ids.size() < parts_.batch_max) {
    step.joins.push_back(joining_.front().what);
    step.ids.push_back(joining_.front().newest);
    entering_.push_back(std::move(joining_.front()));
    joining_.pop_front();
  }
  emitted_.clear();
  if (auto done = announce_and_perform(); !done)
    return done;
  for (const auto request : step.leaves)
    calls_.on_left(request);
  auto told = emitted_.empty() ? result<void>{} : calls_.on_tokens(emitted_);
  TROUPE_FAULT_POINT("decode.emitted");
  return told;
}

} // namespace troupe::actors
