#include "protocols/metrics/metric_family.hpp"

#include <algorithm>

#include "protocols/cluster/program.hpp"

namespace troupe::protocols {

namespace {

constexpr std::string_view own_prefix = "troupe_";
constexpr std::string_view known_prefix = "vllm:";

using labels = std::vector<std::pair<std::string, std::string>>;

/// Collects samples into families, in the order in which a name comes first.
class family_list {
public:
  void add(std::string name, std::string_view help, metric_kind kind, metric_sample sample) {
    const auto found = std::ranges::find(all_, name, &metric_family::name);
    auto& family =
        found != all_.end() ? *found : all_.emplace_back(metric_family{std::move(name), std::string{help}, kind, {}});
    family.samples.push_back(std::move(sample));
  }
  std::vector<metric_family> take() { return std::move(all_); }

private:
  std::vector<metric_family> all_;
};

labels labels_of(const view_board& board, rank_id rank, const metric_names& names) {
  const auto& plan = board.plan().rank(rank);
  return {{"model_name", names.model},
          {"engine", "0"},
          {"rank", std::to_string(rank.value)},
          {"label", plan.label},
          {"role", std::string{name(plan.role)}}};
}

metric_sample sample_of(const metric_row& row, const histogram_value& said, labels at) {
  metric_sample sample{
      .labels = std::move(at), .value = static_cast<double>(said.sum) * row.unit, .bounds = {}, .cumulative = {}};
  std::uint64_t up_to = 0;
  for (std::size_t i = 0; i < said.counts.size(); ++i) {
    sample.cumulative.push_back(up_to += said.counts[i]);
    if (i < row.bounds.size())
      sample.bounds.push_back(static_cast<double>(row.bounds[i]) * row.unit);
  }
  return sample;
}

void add_row(family_list& out, const metric_row& row, const metric_names& names, const metric_sample& sample) {
  out.add(std::string{own_prefix} + std::string{row.name}, row.help, row.kind, sample);
  if (!names.known_too || !row.known)
    return;
  out.add(std::string{known_prefix} + std::string{row.name}, row.help, row.kind, sample);
  if (!row.older.empty())
    out.add(std::string{known_prefix} + std::string{row.older}, row.help, row.kind, sample);
}

void add_counted(family_list& out, const view_board& board, const metric_row& row, const metric_names& names) {
  for (const auto& rank : board.plan().ranks) {
    const auto* const known = board.at(rank.id);
    if (known == nullptr)
      continue;
    auto at = labels_of(board, rank.id, names);
    if (!row.label_name.empty())
      at.emplace_back(row.label_name, row.label_value);
    for (const auto& each : known->last.values)
      if (each.metric == row.number) {
        auto mine = at;
        if (each.about != about_nobody)
          mine.emplace_back("to", std::to_string(each.about.value));
        add_row(out, row, names,
                {.labels = std::move(mine),
                 .value = static_cast<double>(each.value) * row.unit,
                 .bounds = {},
                 .cumulative = {}});
      }
    for (const auto& each : known->last.histograms)
      if (each.metric == row.number && each.counts.size() == row.bounds.size() + 1)
        add_row(out, row, names, sample_of(row, each, at));
  }
}

void add_seen(family_list& out, const view_board& board, const metric_names& names, time_point now) {
  const auto add = [&](const char* name, const char* help, metric_kind kind, labels at, double value) {
    out.add(std::string{own_prefix} + name, help, kind,
            {.labels = std::move(at), .value = value, .bounds = {}, .cumulative = {}});
  };
  for (const auto& row : health_rows(board, now)) {
    const auto* const known = board.at(row.rank);
    if (known == nullptr)
      continue;
    auto at = labels_of(board, row.rank, names);
    at.emplace_back("host", row.host);
    const auto yes = [](bool holds) { return holds ? 1.0 : 0.0; };
    add("rank_ready", "1: the rank serves.", metric_kind::gauge, at, yes(known->last.state == life_state::ready));
    add("rank_trouble", "1: the rank is busy and completes nothing, or gives no sign of life.", metric_kind::gauge, at,
        yes(known->last.trouble != seen_trouble::none));
    add("rank_progress_age_seconds",
        "Seconds since the rank last completed a step, layer or collective, even if it is idle.", metric_kind::gauge,
        at, static_cast<double>(row.progress_age_ms) / 1000);
    add("rank_restarts_total", "How often the rank was started again.", metric_kind::counter, at, row.restarts);
    add("rank_generation", "Generation of the rank's current process.", metric_kind::gauge, std::move(at),
        row.generation);
  }
}

} // namespace

std::vector<metric_family> metric_families(const view_board& board, const metric_names& names, const readiness& judged,
                                           time_point now) {
  family_list out;
  const labels whole{{"model_name", names.model}};
  out.add(std::string{own_prefix} + "ready", "1: a request that comes now would be served.", metric_kind::gauge,
          {.labels = whole, .value = judged.ready ? 1.0 : 0.0, .bounds = {}, .cumulative = {}});
  if (board.taken() > 0)
    out.add(std::string{own_prefix} + "epoch", "Epoch of the job; rises with each loss of ranks.", metric_kind::gauge,
            {.labels = whole, .value = static_cast<double>(board.epoch().value), .bounds = {}, .cumulative = {}});
  add_seen(out, board, names, now);
  for (const auto& row : metric_rows(*board.plan().of))
    add_counted(out, board, row, names);
  return out.take();
}

} // namespace troupe::protocols
