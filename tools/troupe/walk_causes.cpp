#include "tools/troupe/walk_causes.hpp"

#include <optional>

namespace troupe::tools {

using namespace protocols;
using namespace std::chrono_literals;

namespace {

/// Above the longest that a struck rank takes to fall and to be told of, a pause that is too long included.
constexpr auto memory = 20s;
constexpr std::size_t wrong_lines_max = 16;

/// Of the ranks whose labels stand in brackets, the one that comes first; of a rank that hears nothing from another,
/// that.
std::optional<rank_id> blamed_in(std::string_view line, const cluster_plan& plan) {
  if (const auto silent = line.find("nothing comes from rank "); silent != std::string_view::npos)
    line.remove_prefix(silent);
  std::optional<rank_id> first;
  auto where = std::string_view::npos;
  for (const auto& rank : plan.ranks)
    if (const auto at = line.find("(" + rank.label + ")"); at < where) {
      where = at;
      first = rank.id;
    }
  return first;
}

} // namespace

void walk_causes::read(std::string_view printed, time_point now) {
  for (auto end = printed.find('\n', read_); end != std::string_view::npos; end = printed.find('\n', read_)) {
    const auto line = printed.substr(read_, end - read_);
    read_ = end + 1;
    if (line.find("; restart ") == std::string_view::npos)
      continue;
    ++restarts_;
    judge(line, now);
  }
}

void walk_causes::read_end(std::string_view line, time_point now) {
  constexpr std::string_view prefix = "first cause: ";
  if (const auto at = line.find(prefix); at != std::string_view::npos)
    judge(line.substr(at + prefix.size()), now);
}

void walk_causes::judge(std::string_view line, time_point now) {
  ++judged_;
  const auto blamed = blamed_in(line, plan_);
  const auto known = blamed ? struck_.find(*blamed) : struck_.end();
  if (known != struck_.end() && now < known->second + memory)
    ++right_;
  else if (wrong_lines_.size() < wrong_lines_max)
    wrong_lines_.emplace_back(line);
}

} // namespace troupe::tools
