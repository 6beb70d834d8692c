#include <algorithm>
#include <chrono>
#include <iterator>

#include "protocols/cluster/life_machine.hpp"
#include "protocols/cluster/life_words.hpp"

/// How a unit that is lost is started again, and whose fault it is when that does not go well.
namespace troupe::protocols {

error refuse_to_rejoin(rank_id self, std::optional<rank_id> unreached, const failure& cause) {
  return {.code = static_cast<std::uint16_t>(cause.code),
          .message = cause.what,
          .origin = unreached.value_or(self),
          .call = {},
          .where = std::string{rejoin_words},
          .request = {}};
}

/// The unit of the rank that failed is lost: it is started again, or the cluster ends.
life_machine::effects life_machine::lose(const first_cause& cause, time_point now) {
  blamed_ = cause;
  effects out;
  if (state_ == state::starting && !cause.unusable.empty()) {
    begin_abort(out, outcome::unusable, cause.unusable, now);
    return out;
  }
  const auto unit = restarts_.unit_of(cause.rank);
  const bool may_restart = (state_ == state::ready || state_ == state::recovering) && !unit.empty();
  const auto served_until = state_ == state::recovering ? lost_at_ : now;
  if (may_restart && restarts_.allow(cause.rank, served_until, now)) {
    begin_recovery(out, unit, cause, now);
    return out;
  }
  auto why = cause.text;
  if (may_restart)
    why += "; not restarted again: restart.intensity (" + restarts_.count_text(cause.rank) + ") is used up";
  out.push_back(report{why});
  begin_abort(out, outcome::rank_failed, why, now, cause.rank);
  return out;
}

void life_machine::begin_recovery(effects& out, const std::vector<rank_id>& unit, const first_cause& cause,
                                  time_point now) {
  if (state_ != state::recovering)
    lost_at_ = now;
  state_ = state::recovering;
  newest_ = newest_.next();
  epoch_ = epoch_.next();
  ordered_ = life_state::joined;
  // Others serve meanwhile; a process that is starved, or lets go of a device, may take long to die of SIGKILL.
  deadline_ = now + std::chrono::milliseconds{timeouts_.start_ms};
  out.push_back(news{cause.text + "; " + restarts_.count_text(cause.rank)});

  for (const auto id : unit)
    ranks_[id.value].starting = true;
  std::vector<rank_id> left_over;
  for (const auto id : starting()) {
    auto& rank = ranks_[id.value];
    rank.evicted = true;
    if (!rank.ended)
      left_over.push_back(id);
  }
  causes_.begin_anew(starting());
  for (auto& rank : ranks_)
    rank.admits = admission::none;
  out.push_back(to_ranks{surviving(), lost{starting(), newest_, cause.text, epoch_}});
  if (!left_over.empty())
    out.push_back(order_to_kill(std::move(left_over)));
  restart_if_gone(out, now);
}

void life_machine::restart_if_gone(effects& out, time_point now) {
  const auto unit = starting();
  if (!std::ranges::all_of(unit, [&](rank_id id) { return ranks_[id.value].ended; }))
    return;
  for (const auto id : unit) {
    ranks_[id.value] =
        rank_record{.born = newest_, .control_lost = {}, .admits_by = {}, .refusal = {}, .reachable = {}};
    parity_.forget(id);
  }
  deadline_ = now + std::chrono::milliseconds{timeouts_.start_ms};
  out.push_back(restart_ranks{unit, newest_});
}

result<life_machine::effects> life_machine::on_rejoined(rank_id from, const rejoined& message, time_point now) {
  const keeps_invariants checked{*this, from};
  if (from.value >= ranks_.size() || message.born > newest_)
    return fail(fault::bad_value, "generation " + std::to_string(message.born.value) + " is not there to be admitted");
  auto& rank = ranks_[from.value];
  effects out;
  if (state_ != state::recovering || message.born != newest_ || !rank.rejoining())
    return out; // of a recovery that has been begun anew since
  if (message.begun != 0) {
    if (rank.admits == admission::ordered) {
      rank.admits = admission::begun;
      rank.admits_by = now + waits_.word;
    }
    return out;
  }
  rank.admits = admission::done;
  if (ordered_ == life_state::warm && all_starting_at(life_state::warm))
    order_step(out, life_state::ready);
  return out;
}

// ---- whose fault ----

/// An edge has two ends, and which of them is at fault cannot be seen from here: the one that can be restarted goes. Of
/// a newcomer that cannot reach a rank which is never restarted, the newcomer goes first; the next one to say the same
/// is believed.
std::optional<rank_id> life_machine::blamed_for(rank_id from, const error& said) {
  if (!restarts_.unit_of(said.origin).empty())
    return said.origin;
  if (state_ != state::recovering || !ranks_[from.value].starting)
    return from;
  return std::exchange(unreached_, said.origin) == said.origin ? said.origin : from;
}

/// A recovery that takes too long is a failure of whom it waits for, and counts as one.
life_machine::effects life_machine::lose_late(time_point now) {
  const auto unit = starting();
  if (std::ranges::any_of(unit, [&](rank_id id) { return ranks_[id.value].evicted; })) {
    effects out;
    begin_abort(out, outcome::rank_failed, "could not be killed: " + list_waited_for(), now);
    return out;
  }
  const auto find = [&](auto is_late) -> std::optional<rank_id> {
    for (const auto& rank : plan_.ranks)
      if (is_late(rank.id, ranks_[rank.id.value]))
        return rank.id;
    return std::nullopt;
  };
  auto late = find([](rank_id, const rank_record& rank) { return rank.admits == admission::ordered; });
  if (!late)
    late = find([&](rank_id id, const rank_record& rank) { return rank.starting && waits_for(id); });
  if (!late)
    late = find([&](rank_id id, const rank_record&) { return waits_for(id); });
  const auto rank = late.value_or(unit.front());
  return lose({rank,
               {},
               {},
               causes_.rank_text(rank) + " keeps the others from being ready again within " +
                   setting("start_ms", timeouts_.start_ms) + ": waiting for " + list_waited_for()},
              now);
}

/// Ranks that stayed and do not even say that they have been told; all of them at once, so that each costs one wait.
life_machine::effects life_machine::lose_unadmitting(time_point now) {
  std::vector<std::pair<rank_id, admission>> late;
  for (const auto& rank : plan_.ranks)
    if (const auto& record = ranks_[rank.id.value];
        (record.admits == admission::ordered || record.admits == admission::begun) && now >= record.admits_by)
      late.emplace_back(rank.id, record.admits);
  const auto newcomers = all_words();
  effects out;
  for (const auto& [rank, stuck] : late) {
    if (state_ != state::recovering)
      break;
    if (ranks_[rank.value].evicted)
      continue; // of a cell that is lost by now
    const auto within = stuck == admission::ordered ? waits_.answer : waits_.word;
    auto lost_too = lose({rank,
                          {},
                          {},
                          causes_.rank_text(rank) + " stayed and does not admit " + newcomers + ": it " +
                              (stuck == admission::ordered ? "has not taken the order" : "has not come back from it") +
                              " within " + std::to_string(within.count()) + " ms"},
                         now);
    std::ranges::move(lost_too, std::back_inserter(out));
  }
  return out;
}

/// Once every rank that stayed has said how it went, and no death has explained it: the only one that got no edge where
/// others got theirs is at fault; the front, which has an edge to every rank, is one of those. Where there are several
/// it is the newcomer, and so where the one is the front, which cannot be restarted: a slow newcomer keeps those
/// waiting longest that need most of it.
life_machine::effects life_machine::validate_refusals(time_point now) {
  std::vector<rank_id> refuse;
  for (const auto& rank : plan_.ranks) {
    const auto& record = ranks_[rank.id.value];
    if (record.rejoining() && (record.admits != admission::refused || now < record.admits_by))
      return {};
    if (record.admits == admission::refused)
      refuse.push_back(rank.id);
  }
  if (refuse.empty())
    return {};
  const auto first = refuse.front();
  const auto& said = ranks_[first.value].refusal;
  const bool alone = refuse.size() == 1 && !restarts_.unit_of(first).empty();
  const auto blamed = alone ? first : said.origin;
  auto text = causes_.rank_text(blamed);
  text += alone ? " stayed and does not admit " + plan_.rank(said.origin).label + ", which others have admitted: "
                : " cannot be admitted: " + plan_.rank(first).label + " says: ";
  return lose({blamed, said.call, said.where, text + said.message}, now);
}

// ---- invariants ----

/// Once for each frame and tick of the supervisor: a few comparisons for each rank.
void life_machine::check_invariants() const {
  TROUPE_ASSERT("D2", epoch_.value >= newest_.value);
  TROUPE_ASSERT("B20", ordered_ >= life_state::joined && ordered_ <= life_state::ready);
  TROUPE_ASSERT("C2", order_ || (state_ != state::draining && state_ != state::aborting && state_ != state::killing));
  TROUPE_ASSERT("C3", !serves() || (!order_ && !front_leaves_));
  bool any_starts = false;
  for (const auto& rank : ranks_) {
    any_starts = any_starts || rank.starting;
    TROUPE_ASSERT("K14", rank.born <= newest_);
    TROUPE_ASSERT("K14", !rank.evicted || rank.starting);
    TROUPE_ASSERT("K14", !rank.starting || rank.admits == admission::none);
    const bool has_joined = rank.at > life_state::spawned && rank.at < life_state::draining;
    TROUPE_ASSERT("C36", !has_joined || rank.ended || rank.reachable != endpoint{});
  }
  TROUPE_ASSERT("B20", state_ != state::ready || !any_starts);
  TROUPE_ASSERT("B20", (state_ != state::starting && state_ != state::recovering) || any_starts);
}

} // namespace troupe::protocols
