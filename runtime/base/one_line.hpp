#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace troupe::base {

/// What a file, a client or another process wrote, as a message may show it.
/// A line feed within it would begin a line that reads like one of ours, an escape sequence commands the reader's
/// terminal, and a megabyte hides the reason. Control characters become spaces, and bytes that are no UTF-8 become
/// U+FFFD. What is longer than `bytes_max` is cut between two characters and ends in "...".
std::string one_line(std::string_view words, std::size_t bytes_max = std::string_view::npos);

} // namespace troupe::base
