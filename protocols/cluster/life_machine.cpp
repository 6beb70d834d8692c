#include "protocols/cluster/life_machine.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>

#include "protocols/cluster/life_words.hpp"

namespace troupe::protocols {

namespace {

std::vector<std::string> labels_of(const cluster_plan& plan) {
  std::vector<std::string> labels;
  for (const auto& rank : plan.ranks)
    labels.push_back(rank.label);
  return labels;
}

life_state next_of(life_state state) noexcept {
  return static_cast<life_state>(static_cast<std::uint8_t>(state) + 1);
}

} // namespace

life_machine::life_machine(const cluster_plan& plan, const std::vector<std::string>& hosts,
                           const cluster_spec::timeouts_section& timeouts,
                           const cluster_spec::restart_section& restarts, time_point now)
    : plan_(plan), hosts_(hosts), timeouts_(timeouts), waits_(timeouts), restarts_(plan, restarts),
      ranks_(plan.ranks.size()), parity_(labels_of(plan)), causes_(names_of(plan, hosts)),
      deadline_(now + std::chrono::milliseconds{timeouts.start_ms}) {}

// ---- start and recovery: the same steps ----

result<life_machine::effects> life_machine::on_joined(rank_id from, const joined& message) {
  const keeps_invariants checked{*this, from};
  if (from.value >= ranks_.size())
    return fail(fault::bad_value, "rank " + std::to_string(from.value) + " of " + std::to_string(ranks_.size()));
  if (message.at.rank != from)
    return fail(fault::wrong_rank, plan_.rank(from).label + " joins as rank " + std::to_string(message.at.rank.value));
  auto& rank = ranks_[from.value];
  if (message.at.born != rank.born)
    return fail(fault::stale_generation, plan_.rank(from).label + " joins as generation " +
                                             std::to_string(message.at.born.value) + ", now " +
                                             std::to_string(rank.born.value));
  // It said so before it was lost.
  if (rank.evicted)
    return effects{};
  if (message.at.unix_path.empty() && message.at.tcp_port == 0) // what is kept of a peer is whole (C36)
    return fail(fault::bad_value, plan_.rank(from).label + " does not say how it can be reached");
  if (rank.at != life_state::spawned || rank.ended)
    return fail(fault::illegal_transition, plan_.rank(from).label + " joins while " + std::string{name(rank.at)});

  rank.at = life_state::joined;
  rank.reachable = message.at;
  effects out;
  if (order_) { // too late: the others have been told to leave
    out.push_back(to_ranks{{from}, *order_});
    return out;
  }
  if (!serves() || !all_starting_at(life_state::joined))
    return out;

  ordered_ = life_state::agreed;
  roster everybody;
  for (const auto& one : ranks_)
    everybody.ranks.push_back(one.reachable);
  out.push_back(report{all_words() + " joined"});
  out.push_back(to_ranks{starting(), std::move(everybody)});
  return out;
}

result<life_machine::effects> life_machine::on_agree(rank_id from, const agree& message, time_point now) {
  const keeps_invariants checked{*this, from};
  if (from.value < ranks_.size() && at(from) == life_state::spawned)
    return fail(fault::illegal_transition, plan_.rank(from).label + " states its facts before it has joined");
  // It said so before it was lost; its successor will state its own.
  if (from.value < ranks_.size() && ranks_[from.value].evicted)
    return effects{};
  const auto judged = parity_.on_agree(from, message);
  if (!judged)
    return tl::unexpected{judged.error()};
  if (!*judged || !serves())
    return effects{};

  const verdict& all_say = **judged;
  effects out{to_ranks{starting(), all_say}};
  if (!all_say.agreed) {
    begin_abort(out, outcome::parity_mismatch, all_say.difference, now);
    return out;
  }
  for (auto& rank : ranks_)
    if (rank.starting)
      rank.at = life_state::agreed;
  if (state_ == state::recovering) { // edges have two ends
    rejoin back;
    for (const auto id : starting())
      back.ranks.push_back(ranks_[id.value].reachable);
    for (const auto id : surviving()) {
      ranks_[id.value].admits = admission::ordered;
      ranks_[id.value].admits_by = now + waits_.answer;
    }
    out.push_back(to_ranks{surviving(), std::move(back)});
  }
  order_step(out, life_state::grouped);
  return out;
}

result<life_machine::effects> life_machine::on_progress(rank_id from, const progress& message, time_point now) {
  const keeps_invariants checked{*this, from};
  if (from.value >= ranks_.size())
    return fail(fault::bad_value, "rank " + std::to_string(from.value) + " of " + std::to_string(ranks_.size()));
  auto& rank = ranks_[from.value];
  const bool steps = rank.starting && message.state > life_state::agreed && message.state == ordered_ &&
                     message.state == next_of(rank.at);
  const bool leaves = !serves() && message.state >= life_state::draining;
  const bool legal = steps || rank.evicted || message.state == rank.at || message.state == life_state::failed;
  if (serves() && !legal)
    return fail(fault::illegal_transition,
                plan_.rank(from).label + " says that it is " + std::string{name(message.state)} + " while " +
                    std::string{name(rank.at)} + ", ordered was " + std::string{name(ordered_)});
  if (leaves || (serves() && steps)) // a step that crossed with the order to leave is none
    rank.at = message.state;

  effects out;
  if (!message.detail.empty())
    out.push_back(report{plan_.rank(from).label + ": " + message.detail});
  if (!steps || !serves() || !all_starting_at(message.state))
    return out;
  if (message.state == life_state::ready)
    finish_start(out, now);
  else
    order_step(out, next_of(message.state));
  return out;
}

/// Work may reach a new generation from the moment that it is ready: every edge to it must be made by then.
void life_machine::order_step(effects& out, life_state next) {
  const bool edges_missing = std::ranges::any_of(ranks_, [](const rank_record& rank) { return rank.rejoining(); });
  if (next == life_state::ready && edges_missing)
    return; // the last `rejoined` comes back here
  ordered_ = next;
  out.push_back(report{all_words() + ' ' + std::string{name(at(starting().front()))}});
  out.push_back(to_ranks{starting(), proceed{next}});
}

void life_machine::finish_start(effects& out, time_point now) {
  const bool was_recovering = state_ == state::recovering;
  const auto back = starting();
  if (was_recovering) {
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(now - lost_at_);
    out.push_back(news{all_words() + " ready again after " + std::to_string(took.count()) + " ms, generation " +
                       std::to_string(newest_.value)});
  } else {
    out.push_back(report{all_words() + " are ready"});
  }
  for (auto& rank : ranks_)
    rank.starting = false;
  unreached_.reset();
  state_ = state::ready;
  if (was_recovering)
    out.push_back(to_ranks{{plan_.front()}, recovered{back}});
  else
    out.push_back(cluster_ready{});
}

// ---- errors and ends ----

life_machine::effects life_machine::on_error(rank_id from, const error& said, time_point now) {
  const keeps_invariants checked{*this, from};
  auto& record = ranks_.at(from.value);
  if (record.evicted)
    return {};
  const bool lane_closed = said.code == static_cast<std::uint16_t>(fault::peer_gone);
  const bool of_another = said.origin != from && said.origin.value < ranks_.size();
  // Of two newcomers neither is told to admit the other: an edge that breaks between them fails their start.
  if (of_another && ranks_[said.origin.value].starting && !record.starting && state_ == state::recovering) {
    if (record.admits != admission::begun || said.where != rejoin_words)
      return {}; // it is being restarted
    record.admits = admission::refused;
    record.admits_by = now + limits::first_cause_grace;
    record.refusal = said;
    return {};
  }
  const auto blamed = of_another ? blamed_for(from, said) : std::optional{from};
  if (blamed && (serves() || (state_ == state::draining && !lane_closed))) // in a drain, peers do leave
    causes_.on_error(from, said, *blamed, at(from), now);
  return {};
}

life_machine::effects life_machine::on_bad_frame(rank_id from, const failure& problem, time_point now) {
  const keeps_invariants checked{*this, from};
  return on_error(from,
                  {.code = static_cast<std::uint16_t>(problem.code),
                   .message = problem.what,
                   .origin = from,
                   .call = {},
                   .where = "control socket",
                   .request = {}},
                  now);
}

life_machine::effects life_machine::on_unsent(rank_id to, const failure& problem, time_point now) {
  const keeps_invariants checked{*this, to};
  return problem.code == fault::peer_gone ? effects{} : on_bad_frame(to, problem, now);
}

void life_machine::on_control_lost(rank_id rank, time_point now) {
  const keeps_invariants checked{*this, rank};
  ranks_.at(rank.value).control_lost = now;
}

/// A rank that has closed its control socket and stays obeys nobody.
void life_machine::kill_unreachable(effects& out, time_point now) {
  for (const auto& rank : plan_.ranks) {
    const auto& record = ranks_[rank.id.value];
    if (record.ended || record.killed || !record.control_lost ||
        now < *record.control_lost + limits::control_lost_grace)
      continue;
    auto said = on_bad_frame(rank.id, {fault::timeout, "closed its control socket and did not leave"}, now);
    std::ranges::move(said, std::back_inserter(out));
    out.push_back(order_to_kill({rank.id}));
  }
}

life_machine::effects life_machine::on_complaint(rank_id from, rank_id of, generation born, bool starved,
                                                 time_point now) {
  const keeps_invariants checked{*this, of};
  if (of.value >= ranks_.size() || starved || ranks_[of.value].born != born)
    return {};
  return on_error(from,
                  {.code = static_cast<std::uint16_t>(fault::timeout),
                   .message = "nothing comes from rank " + std::to_string(of.value) + " (" + plan_.rank(of).label + ")",
                   .origin = of,
                   .call = {},
                   .where = "edge",
                   .request = {}},
                  now);
}

life_machine::effects life_machine::on_silent(rank_id rank, duration silent_for, time_point now) {
  const keeps_invariants checked{*this, rank};
  const auto& record = ranks_.at(rank.value);
  if (record.evicted || record.ended || !(serves() || state_ == state::draining))
    return {};
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(silent_for).count();
  effects out = lose({rank,
                      {},
                      {},
                      causes_.rank_text(rank) + " gave no sign of life for " + std::to_string(ms) + " ms while " +
                          std::string{name(record.at)} + ", " + setting("kill_ms", timeouts_.kill_ms)},
                     now);
  if (state_ != state::recovering) // a process that is stopped cannot obey
    out.push_back(order_to_kill({rank}));
  return out;
}

life_machine::effects life_machine::on_end(rank_id rank, const rank_end& end_of_rank, time_point now) {
  const keeps_invariants checked{*this, rank};
  auto& record = ranks_.at(rank.value);
  record.ended = true;
  const auto was = std::exchange(record.at, end_of_rank.is_orderly() ? life_state::left : life_state::failed);

  effects out;
  if (record.evicted) {
    if (state_ == state::recovering)
      restart_if_gone(out, now);
  } else {
    const bool in_order = state_ == state::draining && (end_of_rank.is_orderly() || end_of_rank.is_consequence());
    if (serves() || (state_ == state::draining && !in_order)) {
      auto cause = causes_.on_end(rank, end_of_rank, was, now);
      if (!cause && all_ended())
        cause = causes_.conclude();
      if (cause)
        out = lose(*cause, now);
    }
  }
  if (all_ended() && state_ != state::ended && state_ != state::recovering)
    end(out);
  return out;
}

life_machine::effects life_machine::on_stop(stop_asker by, const std::string& reason, time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  const bool insists = by == stop_asker::terminal && terminal_asked_;
  terminal_asked_ = terminal_asked_ || by == stop_asker::terminal;
  if (serves())
    begin_drain(out, reason, now);
  else if (state_ == state::draining && insists)
    begin_abort(out, outcome::aborted, "leaving at once: " + reason, now);
  else if (state_ == state::draining)
    out.push_back(report{"draining already, and goes on: " + reason});
  if (all_ended() && state_ != state::ended) // a unit between two generations was all there was
    end(out);
  return out;
}

life_machine::effects life_machine::on_unstartable(rank_id rank, const std::string& why, time_point now) {
  const keeps_invariants checked{*this, rank};
  effects out;
  if (serves() || state_ == state::draining)
    begin_abort(out, outcome::rank_failed, "cannot start " + plan_.rank(rank).label + " again: " + why, now, rank);
  if (all_ended() && state_ != state::ended)
    end(out);
  return out;
}

life_machine::effects life_machine::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  kill_unreachable(out, now);
  auto late = judge_deadlines(now);
  std::ranges::move(late, std::back_inserter(out));
  return out;
}

life_machine::effects life_machine::judge_deadlines(time_point now) {
  effects out;
  // The sockets of a process that dies close before its end can be seen, on a busy machine long before; the end
  // explains what others say meanwhile.
  const bool may_judge = std::ranges::none_of(ranks_, [&](const rank_record& rank) {
    return !rank.ended && !rank.evicted && rank.control_lost && now < *rank.control_lost + limits::control_lost_grace;
  });
  if (may_judge && (serves() || state_ == state::draining))
    if (const auto cause = causes_.on_tick(now))
      return lose(*cause, now);
  if (state_ == state::recovering)
    if (out = lose_unadmitting(now); !out.empty())
      return out;
  if (may_judge && state_ == state::recovering)
    if (out = validate_refusals(now); !out.empty())
      return out;
  order_front_to_leave(out, now);
  if (state_ == state::ready || now < deadline_)
    return out;

  switch (state_) {
  case state::starting:
    begin_abort(out, outcome::start_timeout,
                "not ready within " + setting("start_ms", timeouts_.start_ms) + ": waiting for " + list_waited_for(),
                now);
    break;
  case state::recovering:
    return lose_late(now);
  case state::draining:
    how_ = outcome::drain_timeout;
    cause_ = "not left within " + setting("drain_ms", timeouts_.drain_ms) + ": " + list_waited_for();
    begin_kill(out, now);
    break;
  case state::aborting:
    begin_kill(out, now);
    break;
  case state::killing:
    out.push_back(report{"could not be killed: " + list_waited_for()});
    end(out);
    break;
  case state::ready:
  case state::ended:
    break;
  }
  return out;
}

// ---- who ----

bool life_machine::all_starting_at(life_state at) const {
  return std::ranges::all_of(ranks_, [&](const rank_record& rank) { return !rank.starting || rank.at == at; });
}

bool life_machine::all_ended() const {
  return std::ranges::all_of(ranks_, &rank_record::ended);
}

std::vector<rank_id> life_machine::starting() const {
  std::vector<rank_id> out;
  for (const auto& rank : plan_.ranks)
    if (ranks_[rank.id.value].starting)
      out.push_back(rank.id);
  return out;
}

std::vector<rank_id> life_machine::surviving() const {
  std::vector<rank_id> out;
  for (const auto& rank : plan_.ranks)
    if (!ranks_[rank.id.value].starting && !ranks_[rank.id.value].ended)
      out.push_back(rank.id);
  return out;
}

/// "all 6 ranks" of a first start, "prefill.0/t0, prefill.0/t1" of a restart.
std::string life_machine::all_words() const {
  if (state_ != state::recovering)
    return "all " + std::to_string(ranks_.size()) + " ranks";
  std::string text;
  for (const auto id : starting())
    text += (text.empty() ? "" : ", ") + plan_.rank(id).label;
  return text;
}

bool life_machine::waits_for(rank_id rank) const {
  const auto& record = ranks_.at(rank.value);
  if (state_ == state::ready)
    return false;
  if (state_ != state::starting && state_ != state::recovering)
    return !record.ended;
  if (record.evicted)
    return !record.ended;
  if (!record.starting)
    return record.rejoining();
  return record.at < ordered_ && !(ordered_ == life_state::agreed && parity_.has_stated(rank));
}

/// "prefill.0/t1 (joined), decode.0 (spawned)".
std::string life_machine::list_waited_for() const {
  std::string text;
  for (const auto& rank : plan_.ranks)
    if (waits_for(rank.id))
      text += (text.empty() ? "" : ", ") + rank.label + " (" + std::string{name(at(rank.id))} + ')';
  return text;
}

// ---- the end ----

void life_machine::begin_drain(effects& out, const std::string& reason, time_point now) {
  state_ = state::draining;
  deadline_ = now + std::chrono::milliseconds{timeouts_.drain_ms};
  order_ = shutdown{.drain = true, .reason = reason};
  out.push_back(report{"draining: " + reason});
  out.push_back(to_all{*order_});
}

bool life_machine::front_has_requests() const {
  const auto& front = ranks_[plan_.front().value];
  return plan_.rank(plan_.front()).role != role_kind::stub && !front.ended && front.at >= life_state::ready;
}

void life_machine::begin_abort(effects& out, outcome how, std::string cause, time_point now,
                               std::optional<rank_id> blamed) {
  const auto grace = std::chrono::milliseconds{timeouts_.kill_ms};
  deadline_ = now + (state_ == state::starting ? std::min(grace, limits::start_abort_grace) : grace);
  state_ = state::aborting;
  how_ = how;
  cause_ = how == outcome::rank_failed ? "first cause: " + cause : cause;
  order_ = shutdown{.drain = false, .reason = cause_};
  const auto front = plan_.front();
  if (!front_has_requests() || blamed == front) {
    out.push_back(to_all{*order_});
    return;
  }
  epoch_ = epoch_.next();
  lost everything{.ranks = {}, .next = generation{0}, .cause = std::move(cause), .epoch = epoch_};
  std::vector<rank_id> others;
  for (const auto& rank : plan_.ranks) {
    everything.ranks.push_back(rank.id);
    const auto& record = ranks_[rank.id.value];
    if (rank.id != front && !record.ended && record.at != life_state::spawned)
      others.push_back(rank.id);
  }
  out.push_back(to_ranks{{front}, std::move(everything)});
  out.push_back(to_ranks{std::move(others), *order_});
  front_leaves_ = now + limits::front_notice;
  deadline_ += limits::front_notice;
}

void life_machine::order_front_to_leave(effects& out, time_point now) {
  if (!front_leaves_ || now < *front_leaves_)
    return;
  front_leaves_.reset();
  if (!ranks_[plan_.front().value].ended)
    out.push_back(to_ranks{{plan_.front()}, *order_});
}

void life_machine::begin_kill(effects& out, time_point now) {
  state_ = state::killing;
  deadline_ = now + std::chrono::milliseconds{timeouts_.kill_ms};
  std::vector<rank_id> late;
  for (const auto& rank : plan_.ranks)
    if (!ranks_[rank.id.value].ended)
      late.push_back(rank.id);
  out.push_back(order_to_kill(std::move(late)));
}

life_machine::kill_ranks life_machine::order_to_kill(std::vector<rank_id> ranks) {
  for (const auto id : ranks)
    ranks_[id.value].killed = true;
  return {std::move(ranks)};
}

void life_machine::end(effects& out) {
  state_ = state::ended;
  out.push_back(cluster_ended{how_, cause_});
}

} // namespace troupe::protocols
