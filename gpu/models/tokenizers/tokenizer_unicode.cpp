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

void append_utf8(std::string& out, code_point value) {
  if (value >= stray)
    out.push_back(static_cast<char>(static_cast<unsigned char>(value - stray)));
  else
    base::append_utf8(out, value);
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
