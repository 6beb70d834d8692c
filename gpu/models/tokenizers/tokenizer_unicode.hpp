#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/utf8.hpp"

/// UTF-8 and the few Unicode properties that pre-tokenizers and normalizers ask for.
namespace troupe::gpu::models::unicode {

/// A code point, or `stray + byte` for a byte that is part of none: text of users is bytes, and every byte has a token.
using code_point = char32_t;
inline constexpr code_point stray = 0x110000;
inline constexpr code_point replacement = 0xFFFD;

using base::front_of;
using base::utf8_front;

/// Of `stray + byte` it appends the byte.
void append_utf8(std::string& out, code_point value);
constexpr std::size_t utf8_bytes(code_point value) noexcept {
  return value < 0x80 || value >= stray ? 1 : value < 0x800 ? 2 : value < 0x10000 ? 3 : 4;
}
std::vector<code_point> decode(std::string_view text);

bool is_letter(code_point value) noexcept; ///< general category L
bool is_number(code_point value) noexcept; ///< general category N
bool is_space(code_point value) noexcept;  ///< property White_Space

/// Normalization form C; stray bytes stay where they are.
std::string nfc(std::string_view text);

} // namespace troupe::gpu::models::unicode
