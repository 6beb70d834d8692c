#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace troupe::door {

/// How many bytes the first code point of the text has; 0: the text does not begin with a well-formed code point.
inline std::size_t code_point_bytes(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto goes_on = [&](std::size_t i) { return i < text.size() && (byte(i) & 0xC0) == 0x80; };
  if (text.empty())
    return 0;
  const auto first = byte(0);
  if (first < 0x80)
    return 1;
  if (first >= 0xC2 && first < 0xE0)
    return goes_on(1) ? 2 : 0;
  if (first >= 0xE0 && first < 0xF0) {
    if (!goes_on(1) || !goes_on(2) || (first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) >= 0xA0))
      return 0;
    return 3;
  }
  if (first >= 0xF0 && first < 0xF5) {
    if (!goes_on(1) || !goes_on(2) || !goes_on(3) || (first == 0xF0 && byte(1) < 0x90) ||
        (first == 0xF4 && byte(1) >= 0x90))
      return 0;
    return 4;
  }
  return 0;
}

/// Appends the code point in UTF-8.
inline void append_code_point(std::string& out, std::uint32_t point) {
  const auto add = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
  if (point < 0x80) {
    add(point);
  } else if (point < 0x800) {
    add(0xC0 | (point >> 6));
    add(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    add(0xE0 | (point >> 12));
    add(0x80 | ((point >> 6) & 0x3F));
    add(0x80 | (point & 0x3F));
  } else {
    add(0xF0 | (point >> 18));
    add(0x80 | ((point >> 12) & 0x3F));
    add(0x80 | ((point >> 6) & 0x3F));
    add(0x80 | (point & 0x3F));
  }
}

} // namespace troupe::door
