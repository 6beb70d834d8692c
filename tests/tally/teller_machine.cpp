#include "tests/tally/teller_machine.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "protocols/invariant.hpp"
#include "protocols/limits.hpp"
#include "protocols/transfers/lease.hpp"

namespace troupe::tally {

using namespace protocols;

teller_machine::teller_machine(const cluster_plan& plan, options how) : how_(how) {
  for (const auto id : plan.cells_of(counter)) {
    auto& one = cells_.emplace_back();
    one.slot = static_cast<std::uint32_t>(cells_.size() - 1);
    one.ranks = plan.cell(id).ranks;
  }
  TROUPE_ASSERT("tally", !cells_.empty() && how_.piece_numbers > 0 && how_.writes_max > 0);
}

result<teller_machine::effects> teller_machine::on_count(request_id id, std::uint32_t first, std::uint32_t amount,
                                                         time_point now) {
  if (draining_)
    return fail(fault::shutting_down);
  const auto open =
      waiting_.size() +
      static_cast<std::size_t>(std::ranges::count_if(cells_, [](const cell& one) { return one.round != room_id{}; }));
  if (open >= how_.questions_max)
    return fail(fault::queue_full, std::to_string(open) + " questions are open");
  const auto most = how_.numbers_max * cells_.front().ranks.size();
  if (amount == 0 || amount > most)
    return fail(fault::invalid_request, std::to_string(amount) + " numbers, from 1 to " + std::to_string(most));
  waiting_.push_back({id, first, amount, 0, now + how_.question_deadline});
  return go_on({}, now);
}

teller_machine::effects teller_machine::on_lend(rank_id from, const lend& word, time_point now) {
  if (auto* const one = find(from))
    one->lent[from] = word.born;
  return go_on({}, now);
}

/// One that failed because the rank is gone is explained by the news of its loss, which ends the round.
teller_machine::effects teller_machine::on_written(room_id round, const result<void>& outcome, time_point now) {
  effects out;
  const auto found = writes_.find(round);
  TROUPE_ASSERT("tally", found != writes_.end());
  auto& [place, open] = found->second;
  auto& one = cells_[place];
  --one.writes_open;
  if (--open == 0)
    writes_.erase(found);
  if (!outcome && may_still_arrive(outcome.error().code))
    one.rests_until = now + limits::slot_quarantine;
  const bool explained =
      outcome || outcome.error().code == fault::peer_gone || outcome.error().code == fault::stale_grant;
  if (!explained && one.round == round)
    ask_again(one, outcome.error(), out);
  if (outcome && one.round == round)
    write_on(one, out);
  return go_on(std::move(out), now);
}

teller_machine::effects teller_machine::on_sum(rank_id from, const sum& word, time_point now) {
  effects out;
  if (auto* const one = find(from); one != nullptr && one->round == word.round && one->round != room_id{}) {
    out.push_back(end_question{one->asked.id, std::nullopt, word.value, one->asked.rounds});
    one->round = {};
  }
  return go_on(std::move(out), now);
}

teller_machine::effects teller_machine::on_lost(const lost& news, time_point now) {
  effects out;
  const failure why{fault::cell_gone, news.cause};
  for (const auto rank : news.ranks)
    if (auto* const one = find(rank)) {
      one->up = false;
      one->gone = news.next == generation{};
      one->lent.clear();
      if (one->round != room_id{})
        ask_again(*one, why, out);
    }
  if (std::ranges::all_of(cells_, &cell::gone))
    for (; !waiting_.empty(); waiting_.pop_front())
      out.push_back(end_question{waiting_.front().id, why, 0, waiting_.front().rounds});
  return go_on(std::move(out), now);
}

teller_machine::effects teller_machine::on_recovered(const recovered& news, time_point now) {
  for (const auto rank : news.ranks)
    if (auto* const one = find(rank))
      one->up = true;
  return go_on({}, now);
}

teller_machine::effects teller_machine::on_drain(time_point now) {
  draining_ = true;
  return go_on({}, now);
}

teller_machine::effects teller_machine::on_tick(time_point now) {
  effects out;
  const failure late{fault::timeout, "the question"};
  const auto is_late = [&](const question& one) {
    if (now < one.until)
      return false;
    out.push_back(end_question{one.id, late, 0, one.rounds});
    return true;
  };
  std::erase_if(waiting_, is_late);
  for (auto& one : cells_)
    if (one.round != room_id{} && is_late(one.asked))
      one.round = {};
  return go_on(std::move(out), now);
}

teller_machine::cell* teller_machine::find(rank_id rank) {
  const auto found = std::ranges::find_if(
      cells_, [rank](const cell& one) { return std::ranges::find(one.ranks, rank) != one.ranks.end(); });
  return found == cells_.end() ? nullptr : &*found;
}

void teller_machine::begin(cell& on, question asked, effects& out) {
  on.round = newest_ = newest_.next();
  on.asked = asked;
  ++on.asked.rounds;
  on.place = on.at = on.done = on.part = 0;
  for (std::uint32_t place = 0; place < on.ranks.size(); ++place) {
    const auto share = on.share_of(place);
    out.push_back(
        send_tally{on.ranks[place], add{on.round, share, (share + how_.piece_numbers - 1) / how_.piece_numbers}});
  }
  write_on(on, out);
}

void teller_machine::write_on(cell& on, effects& out) {
  while (on.writes_open < how_.writes_max && on.place < on.ranks.size()) {
    const auto share = on.share_of(on.place);
    if (on.at >= share) {
      ++on.place;
      on.at = 0;
      on.done += share;
      continue;
    }
    const auto amount = std::min(how_.piece_numbers, share - on.at);
    out.push_back(write_numbers{.to = on.ranks[on.place],
                                .owner = on.lent.at(on.ranks[on.place]),
                                .round = on.round,
                                .part = on.part++,
                                .slot = on.slot,
                                .source_at = on.done + on.at,
                                .target_at = on.at,
                                .first_value = on.asked.first + on.done + on.at,
                                .amount = amount});
    on.at += amount;
    ++on.writes_open;
    auto& [slot, open] = writes_[on.round];
    slot = on.slot;
    ++open;
  }
}

void teller_machine::ask_again(cell& on, const failure& why, effects& out) {
  on.round = {};
  if (on.asked.rounds >= how_.rounds_max)
    out.push_back(end_question{on.asked.id, why, 0, on.asked.rounds});
  else
    waiting_.push_front(on.asked);
}

teller_machine::effects teller_machine::go_on(effects out, time_point now) {
  for (auto& one : cells_)
    if (!waiting_.empty() && one.is_idle(now)) {
      begin(one, waiting_.front(), out);
      waiting_.pop_front();
    }
  const bool works = std::ranges::any_of(cells_, [](const cell& one) { return one.round != room_id{}; });
  if (draining_ && !drained_ && waiting_.empty() && !works) {
    drained_ = true;
    out.push_back(drained{});
  }
  return out;
}

} // namespace troupe::tally
