#include "protocols/cluster/first_cause_machine.hpp"

#include <algorithm>
#include <utility>

namespace troupe::protocols {

namespace {

std::string describe(const rank_end& end) {
  std::string text;
  switch (end.how) {
  case rank_end::kind::exited:
    text = "left with exit code ";
    break;
  case rank_end::kind::signalled:
    text = "was killed by signal ";
    break;
  }
  text += std::to_string(end.number);
  return end.words.empty() ? text : text + " (" + end.words + ')';
}

/// "executor_failed: out of memory (call 17, prefill)".
std::string describe(const error& said) {
  const auto code = fault_from(said.code);
  std::string text = code ? std::string{name(*code)} : "fault " + std::to_string(said.code);
  if (!said.message.empty())
    text += ": " + said.message;
  std::string place;
  if (said.call != call_id{})
    place = "call " + std::to_string(said.call.value);
  if (!said.where.empty())
    place += (place.empty() ? "" : ", ") + said.where;
  return place.empty() ? text : text + " (" + place + ')';
}

} // namespace

first_cause_machine::first_cause_machine(std::vector<rank_name> ranks, duration grace)
    : ranks_(std::move(ranks)), last_errors_(ranks_.size()), grace_(grace) {}

void first_cause_machine::on_error(rank_id from, const error& said, rank_id blamed, life_state during, time_point now) {
  const keeps_invariants checked{*this};
  if (said.request != request_id{})
    return;
  if (said.origin != from) { // what is wrong is the peer or the edge; a death that explains it may still be seen
    const auto says = rank_text(from) + " says: " + describe(said);
    suspect(false, from,
            {blamed, said.call, said.where, blamed == from ? says : rank_text(blamed) + " cannot be used: " + says},
            now);
    return;
  }
  last_errors_.at(from.value) = said;
  const auto text = rank_text(from) + " failed while " + std::string{name(during)} + " and had not left";
  const bool blames_another = said.code == static_cast<std::uint16_t>(fault::peer_gone);
  suspect(!blames_another, from, make_cause(from, text), now);
}

std::optional<first_cause> first_cause_machine::on_end(rank_id rank, const rank_end& end, life_state during,
                                                       time_point now) {
  const keeps_invariants checked{*this};
  auto text = rank_text(rank) + ' ' + describe(end) + " while " + std::string{name(during)};
  if (!end.last.empty() && !last_errors_.at(rank.value)) // who leaves without a word to its supervisor
    text += "; its last words: " + end.last;
  auto cause = make_cause(rank, std::move(text));
  if (end.is_consequence()) {
    suspect(false, rank, std::move(cause), now);
    return std::nullopt;
  }
  if (std::exchange(found_, true))
    return std::nullopt;
  return cause;
}

std::optional<first_cause> first_cause_machine::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  if (suspicions_.empty() || now < suspicions_.front().by)
    return std::nullopt;
  return conclude();
}

std::optional<first_cause> first_cause_machine::conclude() {
  const keeps_invariants checked{*this};
  if (found_ || suspicions_.empty())
    return std::nullopt;
  found_ = true;
  auto cause = worst()->cause;
  if (!worst()->accused)
    cause.text += "; no rank was seen to fail before it";
  return cause;
}

const first_cause_machine::suspicion* first_cause_machine::worst() const {
  const auto accused = std::ranges::find(suspicions_, true, &suspicion::accused);
  return accused != suspicions_.end() ? &*accused : &suspicions_.front();
}

void first_cause_machine::begin_anew(std::span<const rank_id> gone) {
  const keeps_invariants checked{*this};
  const auto is_gone = [&](rank_id rank) { return std::ranges::find(gone, rank) != gone.end(); };
  found_ = false;
  std::erase_if(suspicions_, [&](const suspicion& each) { return is_gone(each.cause.rank) || is_gone(each.from); });
  for (const auto rank : gone)
    last_errors_.at(rank.value).reset();
}

std::string first_cause_machine::rank_text(rank_id rank) const {
  const auto& [label, host] = ranks_.at(rank.value);
  return "rank " + std::to_string(rank.value) + " (" + label + ") on " + host;
}

first_cause first_cause_machine::make_cause(rank_id rank, std::string text) const {
  const auto& said = last_errors_[rank.value];
  if (!said)
    return {rank, {}, {}, std::move(text)};
  const auto code = fault_from(said->code);
  const bool unusable = code == fault::config_invalid || code == fault::no_memory;
  return {rank, said->call, said->where, text + "; it said: " + describe(*said),
          unusable ? said->message + " (rank " + std::to_string(rank.value) + ", " + ranks_[rank.value].label + ')'
                   : std::string{}};
}

void first_cause_machine::suspect(bool accused, rank_id from, first_cause cause, time_point now) {
  const bool known = std::ranges::any_of(suspicions_, [&](const suspicion& each) {
    return each.accused == accused && each.cause.rank == cause.rank && each.from == from;
  });
  if (!known)
    suspicions_.push_back({std::move(cause), from, now + grace_, accused});
}

void first_cause_machine::check_invariants() const {
  TROUPE_ASSERT("C24", last_errors_.size() == ranks_.size());
  TROUPE_ASSERT("C24", std::ranges::is_sorted(suspicions_, {}, &suspicion::by));
}

} // namespace troupe::protocols
