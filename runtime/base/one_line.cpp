#include "runtime/base/one_line.hpp"

#include <cstdint>

namespace troupe::base {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD"; // U+FFFD

/// The first character of a text; no bytes where they are no UTF-8.
struct character {
  std::size_t bytes = 0;
  std::uint32_t code = 0;
};

character first_of(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80)
    return {1, lead};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || bytes > text.size())
    return {};
  std::uint32_t code = lead & (0xFFU >> (bytes + 1));
  for (std::size_t at = 1; at < bytes; ++at) {
    if ((byte(at) & 0xC0U) != 0x80)
      return {};
    code = code << 6 | (byte(at) & 0x3FU);
  }
  const bool overlong = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  return overlong || surrogate || code > 0x10FFFF ? character{} : character{bytes, code};
}

bool is_control(std::uint32_t code) {
  const bool separates_lines = code == 0x2028 || code == 0x2029;
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || separates_lines;
}

} // namespace

std::string one_line(std::string_view words, std::size_t bytes_max) {
  std::string line;
  while (!words.empty()) {
    const auto next = first_of(words);
    const auto shown = next.bytes == 0         ? replacement
                       : is_control(next.code) ? std::string_view{" "}
                                               : words.substr(0, next.bytes);
    if (shown.size() > bytes_max - line.size())
      return line + "...";
    line += shown;
    words.remove_prefix(next.bytes == 0 ? 1 : next.bytes);
  }
  return line;
}

} // namespace troupe::base
