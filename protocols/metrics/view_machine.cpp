#include "protocols/metrics/view_machine.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "protocols/metrics/metrics_states.hpp"

namespace troupe::protocols {

namespace {

using std::chrono::milliseconds;

std::uint32_t ms_of(duration time) noexcept {
  const auto ms = std::chrono::floor<milliseconds>(time).count();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(ms, 0, std::numeric_limits<std::uint32_t>::max()));
}

cluster_stage stage_of(life_machine::state state) noexcept {
  using enum life_machine::state;
  switch (state) {
  case starting:
    return cluster_stage::starting;
  case ready:
    return cluster_stage::ready;
  case recovering:
    return cluster_stage::recovering;
  case draining:
    return cluster_stage::draining;
  case aborting:
  case killing:
  case ended:
    return cluster_stage::ending;
  }
  return cluster_stage::ending;
}

/// About how many bytes it takes on the wire.
std::size_t bytes_of(const rank_view& view) noexcept {
  std::size_t bytes = 64 + view.host.size() + view.cause.size() + view.values.size() * 14;
  for (const auto& each : view.histograms)
    bytes += 16 + each.counts.size() * 8;
  return bytes;
}

tl::unexpected<failure> wrong(const cluster_plan& plan, rank_id from, const std::string& what) {
  return fail(fault::bad_value, plan.rank(from).label + " counts " + what);
}

} // namespace

duration view_period(const cluster_spec::timeouts_section& timeouts) noexcept {
  return std::clamp<duration>(milliseconds{timeouts.kill_ms / 8}, milliseconds{10}, std::chrono::seconds{1});
}

duration still_after(const cluster_spec::timeouts_section& timeouts) noexcept {
  return std::max<duration>(milliseconds{timeouts.kill_ms} - 3 * view_period(timeouts), milliseconds{1});
}

view_machine::view_machine(const cluster_plan& plan, std::vector<std::string> hosts, const bounds& within,
                           time_point now)
    : plan_(plan), hosts_(std::move(hosts)), within_(within), ranks_(plan.ranks.size()),
      cursor_(static_cast<std::uint32_t>(plan.ranks.size())), round_due_(now) {
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    ranks_[i].moved = ranks_[i].at_ease = now;
    ranks_[i].rows = metrics_at(plan, plan.ranks[i].id);
  }
}

result<void> view_machine::validate(rank_id from, const counters& said) const {
  const auto& rows = ranks_[from.value].rows;
  const auto row_of = [&](metric_number number) {
    const auto found = std::ranges::find(rows, number, &metric_row::number);
    return found == rows.end() ? nullptr : &*found;
  };
  if (said.values.size() > values_max)
    return wrong(plan_, from, std::to_string(said.values.size()) + " values; at most " + std::to_string(values_max));
  const counter_value* before = nullptr;
  for (const auto& each : said.values) { // ascending, so none can come twice
    const auto* const row = row_of(each.metric);
    if (row == nullptr || row->kind == metric_kind::histogram)
      return wrong(plan_, from, "metric " + std::to_string(each.metric.value) + ", which it does not have");
    if (row->about_peers ? each.about.value >= ranks_.size() : each.about != about_nobody)
      return wrong(plan_, from, std::string{row->name} + " about rank " + std::to_string(each.about.value));
    if (before != nullptr && std::pair{before->metric, before->about} >= std::pair{each.metric, each.about})
      return wrong(plan_, from, std::string{row->name} + " twice or out of order");
    before = &each;
  }
  const histogram_value* last = nullptr;
  for (const auto& each : said.histograms) {
    const auto* const row = row_of(each.metric);
    if (row == nullptr || row->kind != metric_kind::histogram)
      return wrong(plan_, from, "histogram " + std::to_string(each.metric.value) + ", which it does not have");
    if (each.counts.size() != row->bounds.size() + 1)
      return wrong(plan_, from, std::string{row->name} + " in " + std::to_string(each.counts.size()) + " buckets");
    if (last != nullptr && last->metric >= each.metric)
      return wrong(plan_, from, std::string{row->name} + " twice or out of order");
    last = &each;
  }
  if (said.view_taken > (from == plan_.front() ? sent_ : 0))
    return wrong(plan_, from, "view " + std::to_string(said.view_taken) + ", which was never sent to it");
  return {};
}

result<void> view_machine::on_counters(rank_id from, counters said, time_point now) {
  const keeps_invariants checked{*this};
  if (from.value >= ranks_.size())
    return fail(fault::bad_value, "rank " + std::to_string(from.value) + " of " + std::to_string(ranks_.size()));
  if (auto good = validate(from, said); !good)
    return good;
  auto& one = ranks_[from.value];
  move(one, said.progress, said.activity, now);
  taken_ = std::max(taken_, said.view_taken);
  one.counted = std::move(said);
  return {};
}

void view_machine::on_sign(rank_id of, const sign& seen, time_point now) {
  const keeps_invariants checked{*this};
  auto& one = ranks_.at(of.value);
  move(one, seen.progress, seen.activity, now);
  one.last.suspected = seen.suspected;
}

/// `progress` comes from two sources, the rank's report and its flight record. The later event may carry the older
/// value, so only growth counts.
void view_machine::move(known_rank& one, std::uint64_t progress, rank_activity activity, time_point now) {
  const bool moved = progress > one.last.progress;
  if (moved)
    one.moved = now;
  if (moved || activity == rank_activity::idle)
    one.at_ease = now;
  one.last.progress = std::max(one.last.progress, progress);
  one.last.activity = activity;
}

void view_machine::on_restarted(rank_id rank, generation born, time_point now) {
  const keeps_invariants checked{*this};
  auto& one = ranks_.at(rank.value);
  one.born = born;
  ++one.restarts;
  one.last = {};
  one.moved = one.at_ease = now;
  one.counted = {};
}

void view_machine::on_blamed(const first_cause& cause) {
  const keeps_invariants checked{*this};
  auto& kept = ranks_.at(cause.rank.value).cause;
  kept = cause.text.substr(0, cause_bytes_max);
}

rank_view view_machine::view_of(rank_id rank, const life_machine& life, time_point now) const {
  const auto& one = ranks_[rank.value];
  rank_view view{.rank = rank,
                 .born = one.born,
                 .state = life.at(rank),
                 .trouble = seen_trouble::none,
                 .activity = one.last.activity,
                 .progress_age_ms = ms_of(now - one.moved),
                 .still_ms = one.last.activity == rank_activity::idle ? 0 : ms_of(now - one.at_ease),
                 .restarts = one.restarts,
                 .host = hosts_[rank.value],
                 .cause = one.cause,
                 .values = one.counted.values,
                 .histograms = one.counted.histograms};
  if (one.last.suspected)
    view.trouble = seen_trouble::silent;
  else if (view.state == life_state::ready && milliseconds{view.still_ms} >= within_.still)
    view.trouble = seen_trouble::still;
  return view;
}

std::vector<cluster_view> view_machine::next(const life_machine& life, time_point now) {
  const keeps_invariants checked{*this};
  std::vector<cluster_view> pages;
  const auto front = plan_.front();
  const auto at = life.at(front);
  if (!plan_.is_front(front) || at < life_state::ready || at > life_state::draining)
    return pages;
  if (cursor_ == ranks_.size() && now >= round_due_) {
    cursor_ = 0;
    round_due_ = now + within_.every;
  }
  while (cursor_ < ranks_.size() && sent_ - taken_ < pages_ahead_max) {
    cluster_view page{.number = ++sent_, .stage = stage_of(life.current()), .epoch = life.epoch(), .ranks = {}};
    for (std::size_t bytes = 0; cursor_ < ranks_.size() && bytes < page_bytes; ++cursor_) {
      page.ranks.push_back(view_of(rank_id{cursor_}, life, now));
      bytes += bytes_of(page.ranks.back());
    }
    pages.push_back(std::move(page));
  }
  return pages;
}

void view_machine::show_states(state_view& view) const {
  view.show(view_machine_table, {}, 0);
}

void view_machine::check_invariants() const {
  TROUPE_ASSERT("E1", taken_ <= sent_ && sent_ - taken_ <= pages_ahead_max);
  TROUPE_ASSERT("J7", cursor_ <= ranks_.size() && hosts_.size() == ranks_.size());
}

} // namespace troupe::protocols
