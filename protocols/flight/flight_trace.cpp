#include "protocols/flight/flight_trace.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "protocols/cluster/first_cause_machine.hpp"
#include "protocols/flight/flight_losses.hpp"
#include "protocols/flight/flight_words.hpp"
#include "protocols/mesh/collective_kind.hpp"

namespace troupe::protocols {

namespace {

constexpr std::uint16_t by_signal = 1; ///< the operation of flight_action::ended

/// Faults by which a rank says that another one has failed.
bool blames_another(std::uint16_t code) noexcept {
  const auto named = fault_from(code);
  return named == fault::peer_gone || named == fault::cell_gone || named == fault::timeout ||
         named == fault::cancelled || named == fault::shutting_down;
}

bool is_consequence(const flight_record& end) noexcept {
  return end.operation != by_signal &&
         (end.item == 0 || end.item == exit_supervisor_gone || end.item == exit_peer_gone);
}

class tracer {
public:
  tracer(const std::vector<flight_story>& stories, const cluster_plan* plan, std::optional<std::int64_t> now_ns,
         duration stalled_after)
      : stories_(stories), plan_(plan), now_ns_(now_ns), stalled_after_(stalled_after) {}

  flight_trace run();

private:
  struct rank_state {
    const flight_story* story = nullptr;
    flight_losses::rank_seen seen;
  };

  void sort_stories();
  std::string said_of(const flight_losses::loss& lost) const;
  std::vector<flight_trace::recovery> recoveries() const;
  void time(flight_trace::rank_line& line, const rank_state& state) const;
  std::vector<rank_id> awaited(const flight_trace::rank_line& line) const;
  std::optional<rank_id> first_failure() const;
  std::optional<rank_id> most_awaited() const;
  const flight_trace::rank_line* line_of(rank_id rank) const;
  const flight_trace::rank_line* held_up_by_another(rank_id blamed) const;
  std::string cause_text() const;
  bool counts(const flight_trace::rank_line& line) const;
  std::string line_text(const flight_trace::rank_line& line) const;
  std::string label_of(rank_id rank) const;
  std::string named(rank_id rank) const;

  const std::vector<flight_story>& stories_;
  const cluster_plan* plan_;
  std::optional<std::int64_t> now_ns_;
  duration stalled_after_;

  std::map<rank_id, rank_state> ranks_;
  std::map<group_id, std::set<rank_id>> members_;
  flight_losses losses_;
  std::string supervisor_words_;
  std::int64_t judged_ns_ = 0;
  flight_trace out_;
};

void tracer::sort_stories() {
  if (plan_ != nullptr) {
    for (const auto& rank : plan_->ranks)
      ranks_[rank.id];
    for (const auto& group : plan_->groups)
      members_[group.id].insert(group.members.begin(), group.members.end());
  }
  for (const auto& story : stories_) {
    for (const auto& record : story.records)
      judged_ns_ = std::max(judged_ns_, record.time_ns);
    if (story.rank == supervisor_rank)
      continue;
    auto& newest = ranks_[story.rank].story;
    if (newest == nullptr || newest->born < story.born)
      newest = &story;
  }
  for (const auto& [rank, state] : ranks_)
    if (state.story != nullptr)
      for (const auto& group : state.story->groups)
        members_[group.id].insert(rank);
  for (const auto& story : stories_)
    if (story.rank == supervisor_rank) {
      losses_.read(story);
      supervisor_words_ = story.words;
    }
  for (auto& [rank, state] : ranks_)
    state.seen = losses_.of(rank);
  judged_ns_ = now_ns_.value_or(judged_ns_);
}

/// What the record of the generation that failed tells. The oldest records of a rank are removed as new ones come.
std::string tracer::said_of(const flight_losses::loss& lost) const {
  const flight_story* last = nullptr;
  std::optional<generation> oldest_kept;
  std::size_t kept = 0;
  for (const auto& story : stories_) {
    if (story.rank != lost.first)
      continue;
    ++kept;
    oldest_kept = std::min(oldest_kept.value_or(story.born), story.born);
    const bool is_its = lost.born ? story.born == *lost.born : story.born < *lost.next;
    if (is_its && (last == nullptr || last->born < story.born))
      last = &story;
  }
  if (last != nullptr) {
    const auto said = last_words(*last);
    return said.empty() ? "idle" : said;
  }
  if (kept >= flight_generations_kept && *oldest_kept >= *lost.next)
    return "its record is no longer kept (of this rank those from generation " + std::to_string(oldest_kept->value) +
           " on are)";
  return "left no record";
}

std::vector<flight_trace::recovery> tracer::recoveries() const {
  std::vector<flight_trace::recovery> out;
  for (const auto& each : losses_.losses())
    if (each.next)
      out.push_back({*each.next, each.first,
                     named(each.first) + ": " + said_of(each) + (each.end ? end_text(*each.end, each.put_down) : "")});
  return out;
}

void tracer::time(flight_trace::rank_line& line, const rank_state& state) const {
  auto until = judged_ns_;
  if (line.in.until_ns != 0)
    until = line.in.until_ns;
  else if (state.seen.end)
    until = state.seen.end->time_ns;
  else if (losses_.verdict() && !now_ns_)
    until = std::max(losses_.verdict()->time_ns, line.in.what.time_ns);
  line.lasted_ns = std::max<std::int64_t>(0, until - line.in.what.time_ns);
}

std::vector<rank_id> tracer::awaited(const flight_trace::rank_line& line) const {
  const auto& in = line.in.what;
  std::vector<rank_id> out;
  const auto add_others = [&](const std::set<rank_id>& among, auto is_missing) {
    for (const auto rank : among)
      if (rank != line.rank && is_missing(rank, ranks_.at(rank).story))
        out.push_back(rank);
  };
  const auto group = members_.find(in.group);
  switch (in.action) {
  case flight_action::collective:
    if (is_hop(in) || group == members_.end())
      break;
    add_others(group->second, [&](rank_id, const flight_story* story) {
      if (story == nullptr)
        return true;
      const auto known = std::ranges::find(story->groups, in.group, &flight_story::group::id);
      return known == story->groups.end() || known->entered < in.number;
    });
    if (out.empty()) // all had entered: what it lacks is somebody's bytes
      add_others(group->second, [&](rank_id rank, const flight_story*) {
        const auto& end = ranks_.at(rank).seen.end;
        return end && !is_consequence(*end);
      });
    return out;
  case flight_action::plan_announce:
    if (group != members_.end())
      add_others(group->second, [&](rank_id, const flight_story* story) {
        return story == nullptr || most_telling(*story).what.action != flight_action::plan_await;
      });
    return out;
  case flight_action::none:
    if (line.recorded && ranks_.at(line.rank).story->life < life_state::ready)
      for (const auto& [rank, state] : ranks_)
        if (state.story == nullptr || state.story->life < ranks_.at(line.rank).story->life)
          out.push_back(rank);
    return out;
  case flight_action::life:
  case flight_action::part:
  case flight_action::turn:
  case flight_action::edge:
  case flight_action::step:
  case flight_action::device:
  case flight_action::plan_await:
  case flight_action::transfer:
  case flight_action::arrived:
  case flight_action::frame_sent:
  case flight_action::frame_received:
  case flight_action::fault:
  case flight_action::spawned:
  case flight_action::ended:
  case flight_action::killed:
  case flight_action::verdict:
    break;
  }
  if (ranks_.contains(in.peer))
    out.push_back(in.peer);
  return out;
}

/// Whether what this rank waits for says anything of a fault: who waits for orders does so for ever.
bool tracer::counts(const flight_trace::rank_line& line) const {
  if (line.waits_for.empty() || !line.recorded)
    return false;
  if (line.in.what.outcome != 0)
    return true;
  if (line.in.what.action == flight_action::plan_await)
    return false;
  return !now_ns_ || duration{line.lasted_ns} >= stalled_after_;
}

std::optional<rank_id> tracer::most_awaited() const {
  std::set<rank_id> wanted;
  std::set<rank_id> waiting;
  for (const auto& line : out_.ranks)
    if (counts(line)) {
      waiting.insert(line.rank);
      wanted.insert(line.waits_for.begin(), line.waits_for.end());
    }
  const auto silent_since = [&](rank_id rank) {
    const auto* const story = ranks_.at(rank).story;
    return story == nullptr || story->records.empty() ? 0 : story->records.back().time_ns;
  };
  // The ends of the chains; where all wait in a circle, whoever of it fell silent first.
  std::vector<rank_id> candidates;
  std::ranges::set_difference(wanted, waiting, std::back_inserter(candidates));
  if (candidates.empty())
    candidates.assign(wanted.begin(), wanted.end());
  const auto found = std::ranges::min_element(candidates, {}, silent_since);
  return found == candidates.end() ? std::nullopt : std::optional{*found};
}

const flight_trace::rank_line* tracer::line_of(rank_id rank) const {
  const auto found = std::ranges::find(out_.ranks, rank, &flight_trace::rank_line::rank);
  return found == out_.ranks.end() ? nullptr : &*found;
}

/// A rank that left because another was late may be the first whose end is seen: a rank that is stopped ends later, and
/// of a chain of waits with one deadline any may end first. Returns the last of those that waited for one another,
/// behind whom one stands that waited for nobody, for several, as one that is a collective behind them all, or in a
/// circle for somebody else.
const flight_trace::rank_line* tracer::held_up_by_another(rank_id blamed) const {
  const flight_trace::rank_line* last = nullptr;
  std::set<rank_id> seen;
  for (const auto* line = line_of(blamed); line != nullptr && seen.insert(line->rank).second;
       line = line_of(line->waits_for.front())) {
    if (line->waits_for.size() != 1 || fault_from(line->in.what.outcome) != fault::timeout)
      break;
    const auto* const next = line_of(line->waits_for.front());
    if (next == nullptr)
      break;
    const bool waits_for_others = fault_from(next->in.what.outcome) == fault::timeout && !next->waits_for.empty() &&
                                  (next->waits_for.size() > 1 || !seen.contains(next->waits_for.front()));
    if (next->in.what.outcome != 0 && !waits_for_others)
      break;
    last = line;
  }
  return last;
}

std::optional<rank_id> tracer::first_failure() const {
  if (losses_.verdict()) {
    const auto* const waited = held_up_by_another(losses_.verdict()->peer);
    return waited == nullptr ? losses_.verdict()->peer : waited->waits_for.front();
  }
  std::optional<rank_id> found;
  std::int64_t found_ns = 0;
  const auto consider = [&](rank_id rank, std::int64_t time_ns) {
    if (!found || time_ns < found_ns) {
      found = rank;
      found_ns = time_ns;
    }
  };
  for (const auto& [rank, state] : ranks_) {
    if (state.seen.end && !state.seen.put_down && !is_consequence(*state.seen.end))
      consider(rank, state.seen.end->time_ns);
    if (state.story == nullptr)
      continue;
    for (const auto& record : state.story->records)
      if (record.action == flight_action::fault && !blames_another(record.operation)) {
        consider(rank, record.time_ns);
        break;
      }
  }
  return found ? found : most_awaited();
}

std::string tracer::label_of(rank_id rank) const {
  const auto found = ranks_.find(rank);
  if (found != ranks_.end() && found->second.story != nullptr)
    return found->second.story->label;
  return plan_ != nullptr && rank.value < plan_->ranks.size() ? plan_->rank(rank).label : std::string{};
}

/// "rank 3 (prefill.0/t1)".
std::string tracer::named(rank_id rank) const {
  const auto label = label_of(rank);
  return rank_text(rank) + (label.empty() ? "" : " (" + label + ')');
}

std::string tracer::line_text(const flight_trace::rank_line& line) const {
  auto text = named(line.rank) + ": ";
  const auto& state = ranks_.at(line.rank);
  if (!line.recorded) {
    text += "left no record";
  } else if (line.in.what.action == flight_action::none) {
    text += "idle";
    if (state.story->life < life_state::ready)
      text += " while " + std::string{name(state.story->life)};
  } else {
    text += "in " + describe(line.in.what, state.story->groups) + ", since " + span_text(line.lasted_ns);
    if (const auto code = fault_from(line.in.what.outcome))
      text += ", left by " + std::string{name(*code)};
  }
  for (std::size_t i = 0; i < line.waits_for.size(); ++i)
    text += (i == 0 ? "; waits for " : ", ") + rank_text(line.waits_for[i]);
  if (line.end)
    text += end_text(*line.end, state.seen.put_down);
  return text;
}

flight_trace tracer::run() {
  sort_stories();
  for (const auto& [rank, state] : ranks_) {
    flight_trace::rank_line line{.rank = rank,
                                 .born = {},
                                 .label = label_of(rank),
                                 .host = {},
                                 .in = {},
                                 .waits_for = {},
                                 .end = state.seen.end,
                                 .words = {},
                                 .text = {}};
    if (state.story != nullptr) {
      line.recorded = true;
      line.born = state.story->born;
      line.host = state.story->host;
      line.words = state.story->words;
      line.in = most_telling(*state.story);
      time(line, state);
    }
    out_.ranks.push_back(std::move(line));
  }
  for (auto& line : out_.ranks) {
    line.waits_for = awaited(line);
    line.text = line_text(line);
  }
  out_.recoveries = recoveries();
  out_.first = first_failure();
  out_.beyond_verdict = losses_.verdict() && out_.first != losses_.verdict()->peer;
  out_.cause = cause_text();
  return std::move(out_);
}

std::string tracer::cause_text() const {
  auto text = losses_.recovered() && now_ns_ ? std::string{} : supervisor_words_;
  if (out_.beyond_verdict) {
    constexpr std::string_view prefix = "first cause: ";
    const auto* const waited = held_up_by_another(losses_.verdict()->peer);
    return std::string{prefix} + named(*out_.first) + ", for which " + named(waited->rank) + " waited " +
           span_text(waited->lasted_ns) + " in " + describe(waited->in.what, ranks_.at(waited->rank).story->groups) +
           "; " + (text.starts_with(prefix) ? text.substr(prefix.size()) : text);
  }
  if (text.empty() && out_.first)
    if (const auto* const line = line_of(*out_.first))
      text = line->words;
  return text;
}

} // namespace

void align_clocks(std::vector<flight_story>& stories) {
  if (stories.empty())
    return;
  const auto first_host = stories.front().host;
  std::map<std::string, std::int64_t> wall_minus_steady; // of the first story of each host
  for (const auto& story : stories)
    wall_minus_steady.emplace(story.host, story.wall_ns - story.steady_ns);
  for (auto& story : stories) {
    const auto shift = wall_minus_steady.at(story.host) - wall_minus_steady.at(first_host);
    const auto move = [shift](std::int64_t& time_ns) {
      if (time_ns != 0)
        time_ns += shift;
    };
    move(story.steady_ns);
    move(story.pulse_ns);
    for (auto& each : story.activities) {
      move(each.what.time_ns);
      move(each.until_ns);
    }
    for (auto& record : story.records)
      move(record.time_ns);
  }
}

flight_trace trace_flight(const std::vector<flight_story>& stories, const cluster_plan* plan,
                          std::optional<std::int64_t> now_ns, duration stalled_after) {
  return tracer{stories, plan, now_ns, stalled_after}.run();
}

std::string flight_trace::text() const {
  constexpr std::size_t lines_max = 64; // a screen or two; all of them stand in the JSON
  constexpr std::size_t recoveries_max = 16;
  std::string out = recoveries.empty() ? "no rank has failed\n" : "no rank has failed since the last recovery\n";
  if (first) {
    const auto line = std::ranges::find(ranks, *first, &rank_line::rank);
    out = "first failing " + (line == ranks.end() ? rank_text(*first) + '\n' : line->text + '\n');
  }
  const auto earlier = recoveries.size() - std::min(recoveries.size(), recoveries_max);
  if (earlier > 0)
    out += "and " + std::to_string(earlier) + " earlier losses of a cell that were made good\n";
  for (auto i = earlier; i < recoveries.size(); ++i) {
    const auto born = recoveries[i].born;
    const auto with_it = std::ranges::count(recoveries, born, &recovery::born);
    const auto first_of = std::ranges::find(recoveries, born, &recovery::born) - recoveries.begin();
    out += "before generation " + std::to_string(born.value) + " failed first";
    if (with_it > 1)
      out += ", in lost cell " + std::to_string(static_cast<std::ptrdiff_t>(i) - first_of + 1) + " of " +
             std::to_string(with_it) + ',';
    out += ' ' + recoveries[i].text + '\n';
  }
  for (std::size_t i = 0; i < std::min(ranks.size(), lines_max); ++i)
    out += ranks[i].text + '\n';
  if (ranks.size() > lines_max)
    out += "and " + std::to_string(ranks.size() - lines_max) + " more ranks\n";
  return out;
}

} // namespace troupe::protocols
