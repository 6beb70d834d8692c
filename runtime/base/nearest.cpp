#include "runtime/base/nearest.hpp"

#include <algorithm>
#include <numeric>

namespace troupe::base {

std::size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1); // row[j]: from the first i characters of `from` to the first j of `to`
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= from.size(); ++i) {
    auto diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= to.size(); ++j) {
      const auto substituted = diagonal + (from[i - 1] == to[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

std::optional<std::string> nearest(std::string_view written, const std::vector<std::string_view>& candidates) {
  std::optional<std::string> best;
  std::size_t best_distance = 0;
  for (const auto candidate : candidates) {
    const auto distance = edit_distance(written, candidate);
    const auto allowed = std::max<std::size_t>(2, candidate.size() / 3);
    if (distance <= allowed && distance < candidate.size() && (!best || distance < best_distance)) {
      best = std::string{candidate};
      best_distance = distance;
    }
  }
  return best;
}

} // namespace troupe::base
