#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

namespace troupe::base {

/// The pieces of a list, without the spaces around them; empty ones are left out. They are parts of `list`.
/// Threads: any.
inline std::vector<std::string_view> split(std::string_view list, char divider) {
  std::vector<std::string_view> pieces;
  while (!list.empty()) {
    const auto piece = list.substr(0, list.find(divider));
    list.remove_prefix(std::min(list.size(), piece.size() + 1));
    if (const auto first = piece.find_first_not_of(' '); first != std::string_view::npos)
      pieces.push_back(piece.substr(first, piece.find_last_not_of(' ') - first + 1));
  }
  return pieces;
}

} // namespace troupe::base
