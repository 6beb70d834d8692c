#include "protocols/life_machine.hpp"

#include <algorithm>
#include <chrono>

namespace troupe::protocols {

namespace {

std::vector<std::string> labels_of(const cluster_plan& plan) {
  std::vector<std::string> labels;
  for (const auto& rank : plan.ranks)
    labels.push_back(rank.label);
  return labels;
}

std::vector<supervision_machine::rank_name> names_of(const cluster_plan& plan, const std::vector<std::string>& hosts) {
  std::vector<supervision_machine::rank_name> names;
  for (const auto& rank : plan.ranks)
    names.push_back({rank.label, hosts.at(rank.id.value)});
  return names;
}

std::string setting(std::string_view key, std::uint32_t ms) {
  return "timeouts." + std::string{key} + " (" + std::to_string(ms) + " ms)";
}

life_state next_of(life_state state) noexcept {
  return static_cast<life_state>(static_cast<std::uint8_t>(state) + 1);
}

} // namespace

life_machine::life_machine(const cluster_plan& plan, const std::vector<std::string>& hosts,
                           const cluster_spec::timeouts_section& timeouts, time_point now)
    : plan_(plan), timeouts_(timeouts), ranks_(plan.ranks.size()), parity_(labels_of(plan)),
      supervision_(names_of(plan, hosts)), deadline_(now + std::chrono::milliseconds{timeouts.start_ms}) {}

result<life_machine::effects> life_machine::on_joined(rank_id from, const joined& message) {
  if (from.value >= ranks_.size())
    return fail(fault::bad_value, "rank " + std::to_string(from.value) + " of " + std::to_string(ranks_.size()));
  if (message.at.rank != from)
    return fail(fault::wrong_rank, plan_.rank(from).label + " joins as rank " + std::to_string(message.at.rank.value));
  auto& rank = ranks_[from.value];
  if (rank.at != life_state::spawned || rank.ended)
    return fail(fault::illegal_transition, plan_.rank(from).label + " joins while " + std::string{name(rank.at)});

  rank.at = life_state::joined;
  rank.reachable = message.at;
  if (order_) // too late: the others have been told to leave
    return effects{to_rank{from, *order_}};
  if (!all_at(life_state::joined))
    return effects{};

  ordered_ = life_state::agreed;
  roster everybody;
  for (const auto& one : ranks_)
    everybody.ranks.push_back(one.reachable);
  return effects{report{"all " + std::to_string(ranks_.size()) + " ranks joined"}, to_all{std::move(everybody)}};
}

result<life_machine::effects> life_machine::on_agree(rank_id from, const agree& message, time_point now) {
  if (from.value < ranks_.size() && at(from) == life_state::spawned)
    return fail(fault::illegal_transition, plan_.rank(from).label + " states its facts before it has joined");
  const auto judged = parity_.on_agree(from, message);
  if (!judged)
    return tl::unexpected{judged.error()};
  if (!*judged || !serves())
    return effects{};

  const verdict& all_say = **judged;
  effects out{to_all{all_say}};
  if (!all_say.agreed) {
    begin_abort(out, outcome::parity_mismatch, all_say.difference, now);
    return out;
  }
  for (auto& rank : ranks_)
    rank.at = life_state::agreed;
  std::ranges::move(proceed_to(life_state::grouped), std::back_inserter(out));
  return out;
}

result<life_machine::effects> life_machine::on_progress(rank_id from, const progress& message) {
  if (from.value >= ranks_.size())
    return fail(fault::bad_value, "rank " + std::to_string(from.value) + " of " + std::to_string(ranks_.size()));
  auto& rank = ranks_[from.value];
  const bool steps =
      message.state > life_state::agreed && message.state == ordered_ && message.state == next_of(rank.at);
  const bool leaves = !serves() && message.state >= life_state::draining;
  const bool legal = steps || message.state == rank.at || message.state == life_state::failed;
  if (serves() && !legal)
    return fail(fault::illegal_transition,
                plan_.rank(from).label + " says that it is " + std::string{name(message.state)} + " while " +
                    std::string{name(rank.at)} + ", ordered was " + std::string{name(ordered_)});
  if (leaves || (serves() && steps)) // a step that crossed with the order to leave is none
    rank.at = message.state;

  effects out;
  if (!message.detail.empty())
    out.push_back(report{plan_.rank(from).label + ": " + message.detail});
  if (!steps || state_ != state::starting || !all_at(message.state))
    return out;
  if (message.state == life_state::ready) {
    state_ = state::ready;
    out.push_back(report{"all " + std::to_string(ranks_.size()) + " ranks are ready"});
    out.push_back(cluster_ready{});
  } else {
    std::ranges::move(proceed_to(next_of(message.state)), std::back_inserter(out));
  }
  return out;
}

life_machine::effects life_machine::on_error(rank_id from, const error& said, time_point now) {
  const bool lane_closed = said.code == static_cast<std::uint16_t>(fault::peer_gone);
  if (serves() || (state_ == state::draining && !lane_closed)) // in a drain, peers do leave
    supervision_.on_error(from, said, at(from), now);
  return {};
}

life_machine::effects life_machine::on_end(rank_id rank, const rank_end& end_of_rank, time_point now) {
  auto& record = ranks_.at(rank.value);
  record.ended = true;
  const auto was = std::exchange(record.at, end_of_rank.is_orderly() ? life_state::left : life_state::failed);

  effects out;
  const bool in_order = state_ == state::draining && (end_of_rank.is_orderly() || end_of_rank.is_consequence());
  if (serves() || (state_ == state::draining && !in_order)) {
    auto cause = supervision_.on_end(rank, end_of_rank, was, now);
    if (!cause && all_ended())
      cause = supervision_.conclude();
    if (cause)
      out = lose(*cause, now);
  }
  if (all_ended() && state_ != state::ended)
    end(out);
  return out;
}

life_machine::effects life_machine::on_shutdown(const shutdown& order, time_point now) {
  effects out;
  if (serves() && order.drain) {
    state_ = state::draining;
    deadline_ = now + std::chrono::milliseconds{timeouts_.drain_ms};
    order_ = order;
    out.push_back(to_all{order});
  } else if (!order.drain && (serves() || state_ == state::draining)) {
    begin_abort(out, outcome::aborted, order.reason, now);
  }
  return out;
}

life_machine::effects life_machine::on_tick(time_point now) {
  effects out;
  if (serves() || state_ == state::draining)
    if (const auto cause = supervision_.on_tick(now))
      return lose(*cause, now);
  if (state_ == state::ready || now < deadline_)
    return out;

  switch (state_) {
  case state::starting:
    begin_abort(out, outcome::start_timeout,
                "not ready within " + setting("start_ms", timeouts_.start_ms) + ": waiting for " + list_waited_for(),
                now);
    break;
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

bool life_machine::all_at(life_state at) const {
  return std::ranges::all_of(ranks_, [&](const rank_record& rank) { return rank.at == at; });
}

bool life_machine::all_ended() const {
  return std::ranges::all_of(ranks_, &rank_record::ended);
}

bool life_machine::waits_for(rank_id rank) const {
  const auto& record = ranks_.at(rank.value);
  if (state_ != state::starting)
    return !record.ended && state_ != state::ready;
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

life_machine::effects life_machine::proceed_to(life_state next) {
  ordered_ = next;
  return {report{"all " + std::to_string(ranks_.size()) + " ranks " + std::string{name(ranks_.front().at)}},
          to_all{proceed{next}}};
}

/// The cell of the rank is lost, and with it, until cells can be restarted, the cluster.
life_machine::effects life_machine::lose(const first_cause& cause, time_point now) {
  effects out{report{cause.text}};
  const auto front = plan_.front();
  const bool front_has_requests = plan_.rank(front).role == role_kind::front && !ranks_[front.value].ended &&
                                  ranks_[front.value].at >= life_state::ready;
  if (front_has_requests && cause.rank != front) {
    const auto& lost = plan_.rank(cause.rank);
    out.push_back(to_rank{front, error{.code = static_cast<std::uint16_t>(fault::cell_gone),
                                       .message = "cell " + lost.pool + '.' + std::to_string(lost.cell_in_pool) +
                                                  " is gone: " + cause.text,
                                       .origin = cause.rank,
                                       .call = cause.call,
                                       .where = cause.where,
                                       .request = {}}});
  }
  begin_abort(out, outcome::rank_failed, "first cause: " + cause.text, now);
  return out;
}

void life_machine::begin_abort(effects& out, outcome how, std::string cause, time_point now) {
  state_ = state::aborting;
  deadline_ = now + std::chrono::milliseconds{timeouts_.kill_ms};
  how_ = how;
  cause_ = std::move(cause);
  order_ = shutdown{.drain = false, .reason = cause_};
  out.push_back(to_all{*order_});
}

void life_machine::begin_kill(effects& out, time_point now) {
  state_ = state::killing;
  deadline_ = now + std::chrono::milliseconds{timeouts_.kill_ms};
  kill_ranks late;
  for (const auto& rank : plan_.ranks)
    if (!ranks_[rank.id.value].ended)
      late.ranks.push_back(rank.id);
  out.push_back(std::move(late));
}

void life_machine::end(effects& out) {
  state_ = state::ended;
  out.push_back(cluster_ended{how_, cause_});
}

} // namespace troupe::protocols
