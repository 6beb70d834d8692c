#include "runtime/base/one_line.hpp"

#include <cstdint>

#include "runtime/base/utf8.hpp"

namespace troupe::base {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD"; // U+FFFD

bool is_control(std::uint32_t code) {
  const bool separates_lines = code == 0x2028 || code == 0x2029;
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || separates_lines;
}

} // namespace

std::string one_line(std::string_view words, std::size_t bytes_max) {
  std::string line;
  while (!words.empty()) {
    const auto next = front_of(words);
    const bool is_character = next.is == utf8_front::kind::whole;
    const auto shown = !is_character            ? replacement
                       : is_control(next.value) ? std::string_view{" "}
                                                : words.substr(0, next.length);
    if (shown.size() > bytes_max - line.size())
      return line + "...";
    line += shown;
    words.remove_prefix(is_character ? next.length : 1);
  }
  return line;
}

} // namespace troupe::base
