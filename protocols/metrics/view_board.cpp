#include "protocols/metrics/view_board.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "protocols/cluster/program.hpp"

namespace troupe::protocols {

namespace {

std::uint64_t ms_since(time_point then, time_point now) noexcept {
  return static_cast<std::uint64_t>(
      std::max<std::int64_t>(std::chrono::floor<std::chrono::milliseconds>(now - then).count(), 0));
}

std::string trouble_words(const view_board::entry& known, time_point now) {
  switch (known.last.trouble) {
  case seen_trouble::none:
    return {};
  case seen_trouble::still:
    return std::string{name(known.last.activity)} + " and completes nothing for " +
           std::to_string(known.last.still_ms + ms_since(known.at, now)) + " ms";
  case seen_trouble::silent:
    return "gives no sign of life";
  }
  return {};
}

std::string rank_words(const view_board& board, rank_id rank) {
  const auto* const known = board.at(rank);
  return "rank " + std::to_string(rank.value) + " (" + board.plan().rank(rank).label + ")" +
         (known == nullptr ? std::string{} : " on " + known->last.host);
}

/// Why the cell serves nobody; empty: it does.
std::string why_not(const view_board& board, const cell_plan& cell) {
  for (const auto rank : cell.ranks) {
    const auto* const known = board.at(rank);
    if (known == nullptr)
      return rank_words(board, rank) + " has told nothing yet";
    if (known->last.state != life_state::ready)
      return rank_words(board, rank) + " is " + std::string{name(known->last.state)} +
             (known->last.cause.empty() ? std::string{} : ": " + known->last.cause);
  }
  return {};
}

} // namespace

result<void> view_board::on_view(cluster_view page, time_point now) {
  if (page.number <= taken_)
    return fail(fault::bad_value, "view " + std::to_string(page.number) + " after view " + std::to_string(taken_));
  for (const auto& one : page.ranks)
    if (one.rank.value >= ranks_.size())
      return fail(fault::bad_value,
                  "a view of rank " + std::to_string(one.rank.value) + " of " + std::to_string(ranks_.size()));
  taken_ = page.number;
  stage_ = page.stage;
  epoch_ = page.epoch;
  heard_ = now;
  for (auto& one : page.ranks) {
    const auto place = one.rank.value;
    ranks_[place] = entry{std::move(one), now};
  }
  return {};
}

const view_board::entry* view_board::at(rank_id rank) const {
  const auto& one = ranks_.at(rank.value);
  return one ? &*one : nullptr;
}

readiness judge_readiness(const view_board& board, life_state self, duration news_within, time_point now) {
  const auto not_ready = [](std::string why) { return readiness{false, std::move(why)}; };
  if (self < life_state::ready)
    return not_ready("starting");
  if (self > life_state::ready || board.stage() >= cluster_stage::draining)
    return not_ready("draining");
  if (board.taken() == 0)
    return not_ready("starting: the supervisor has told nothing yet");
  if (now - board.heard() >= news_within)
    return not_ready("the supervisor has told nothing for " + std::to_string(ms_since(board.heard(), now)) + " ms");
  const auto& plan = board.plan();
  for (const auto& rank : plan.ranks)
    if (const auto* const known = board.at(rank.id); known != nullptr && known->last.state == life_state::ready)
      if (auto words = trouble_words(*known, now); !words.empty())
        return not_ready(rank_words(board, rank.id) + ' ' + words);
  for (const auto& row : plan.of->roles) {
    const auto cells = plan.cells_of(row.role);
    std::string first;
    const bool served = std::ranges::any_of(cells, [&](cell_id id) {
      auto why = why_not(board, plan.cell(id));
      const bool serves = why.empty();
      if (first.empty())
        first = std::move(why);
      return serves;
    });
    if (!cells.empty() && !served)
      return not_ready("no cell of " + std::string{row.name} + " serves: " + first);
  }
  return {true, {}};
}

std::vector<health_row> health_rows(const view_board& board, time_point now) {
  std::vector<health_row> rows;
  for (const auto& rank : board.plan().ranks) {
    health_row row{.rank = rank.id,
                   .label = rank.label,
                   .role = name(rank.role),
                   .host = {},
                   .generation = 0,
                   .state = "unknown",
                   .trouble = {},
                   .progress_age_ms = 0,
                   .restarts = 0,
                   .cause = {}};
    if (const auto* const known = board.at(rank.id)) {
      row.host = known->last.host;
      row.generation = known->last.born.value;
      row.state = name(known->last.state);
      row.trouble = trouble_words(*known, now);
      row.progress_age_ms = known->last.progress_age_ms + ms_since(known->at, now);
      row.restarts = known->last.restarts;
      row.cause = known->last.cause;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

} // namespace troupe::protocols
