#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

#include <algorithm>
#include <span>

#include "gpu/models/tokenizers/tokenizer_unicode_tables.hpp"

namespace troupe::gpu::models::unicode {
namespace {

unsigned char byte_at(std::string_view bytes, std::size_t i) {
  return static_cast<unsigned char>(bytes[i]);
}

bool is_within(std::span<const code_range> ranges, code_point value) noexcept {
  const auto at = std::ranges::lower_bound(ranges, value, {}, &code_range::last);
  return at != ranges.end() && value >= at->first;
}

} // namespace

utf8_front front_of(std::string_view bytes) noexcept {
  using enum utf8_front::kind;
  const unsigned char lead = byte_at(bytes, 0);
  if (lead < 0x80)
    return {whole, 1, lead};
  // The second byte's range rules out overlong forms, surrogates and what lies above U+10FFFF.
  std::uint8_t length = 0;
  unsigned char low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    low = lead == 0xE0 ? 0xA0 : low;
    high = lead == 0xED ? 0x9F : high;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    low = lead == 0xF0 ? 0x90 : low;
    high = lead == 0xF4 ? 0x8F : high;
  } else {
    return {broken, 1, 0};
  }
  code_point value = lead & (0x7Fu >> length);
  for (std::uint8_t i = 1; i < length; ++i) {
    if (i == bytes.size())
      return {incomplete, i, 0};
    const unsigned char next = byte_at(bytes, i);
    if (next < low || next > high)
      return {broken, i, 0};
    value = value << 6 | (next & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return {whole, length, value};
}

void append_utf8(std::string& out, code_point value) {
  const auto put = [&](code_point byte) { out.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (value >= stray) {
    put(value - stray);
  } else if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xC0 | value >> 6);
    put(0x80 | (value & 0x3F));
  } else if (value < 0x10000) {
    put(0xE0 | value >> 12);
    put(0x80 | (value >> 6 & 0x3F));
    put(0x80 | (value & 0x3F));
  } else {
    put(0xF0 | value >> 18);
    put(0x80 | (value >> 12 & 0x3F));
    put(0x80 | (value >> 6 & 0x3F));
    put(0x80 | (value & 0x3F));
  }
}

std::vector<code_point> decode(std::string_view text) {
  std::vector<code_point> out;
  out.reserve(text.size());
  while (!text.empty()) {
    const utf8_front front = front_of(text);
    if (front.is == utf8_front::kind::whole)
      out.push_back(front.value);
    else
      for (std::uint8_t i = 0; i < front.length; ++i)
        out.push_back(stray + byte_at(text, i));
    text.remove_prefix(front.length);
  }
  return out;
}

bool is_letter(code_point value) noexcept {
  if (value < 0x80)
    return (value | 0x20) >= 'a' && (value | 0x20) <= 'z';
  return is_within({letters, letters_count}, value);
}

bool is_number(code_point value) noexcept {
  if (value < 0x80)
    return value >= '0' && value <= '9';
  return is_within({numbers, numbers_count}, value);
}

bool is_space(code_point value) noexcept {
  return (value >= 0x09 && value <= 0x0D) || value == 0x20 || value == 0x85 || value == 0xA0 || value == 0x1680 ||
         (value >= 0x2000 && value <= 0x200A) || value == 0x2028 || value == 0x2029 || value == 0x202F ||
         value == 0x205F || value == 0x3000;
}

} // namespace troupe::gpu::models::unicode
