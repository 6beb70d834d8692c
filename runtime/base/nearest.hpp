#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::base {

/// Single-character insertions, deletions and substitutions that turn one text into the other (Levenshtein).
std::size_t edit_distance(std::string_view from, std::string_view to);

/// The candidate that was probably meant: nearest by edit distance, not further than a third of its length (or 2);
/// the first of equals.
std::optional<std::string> nearest(std::string_view written, const std::vector<std::string_view>& candidates);

} // namespace troupe::base
