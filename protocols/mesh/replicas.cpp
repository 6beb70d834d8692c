#include "protocols/mesh/replicas.hpp"

#include <algorithm>
#include <cmath>

#include "protocols/limits.hpp"

namespace troupe::protocols {

namespace {

bool close(float a, float b) noexcept {
  if (std::isnan(a) || std::isnan(b))
    return std::isnan(a) && std::isnan(b);
  return a == b || std::abs(a - b) <= limits::replica_tolerance * std::max(std::abs(a), std::abs(b));
}

std::string in_words(rank_id rank, const std::string& holds) {
  return "rank " + std::to_string(rank.value) + " " + holds;
}

} // namespace

std::optional<std::string> compare_replicas(std::span<const replica> of, std::span<const rank_id> members) {
  for (std::size_t i = 1; i < of.size(); ++i) {
    if (of[i].rows != of[0].rows)
      return "embedding rows: " + in_words(members[i], "holds others than") + " " +
             in_words(members[0],
                      "(checksums " + std::to_string(of[i].rows) + " and " + std::to_string(of[0].rows) + ")");
    for (std::size_t j = 0; j < of[0].hidden.size(); ++j)
      if (!close(of[i].hidden[j], of[0].hidden[j]))
        return "element " + std::to_string(j) +
               " of the last token's state: " + in_words(members[i], std::to_string(of[i].hidden[j])) + ", " +
               in_words(members[0], std::to_string(of[0].hidden[j]));
  }
  return std::nullopt;
}

} // namespace troupe::protocols
