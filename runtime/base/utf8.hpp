#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// UTF-8, for every part that reads or writes it. Threads: any.
namespace troupe::base {

/// What stands at the front of some bytes.
struct utf8_front {
  enum class kind {
    whole,      ///< `length` bytes are one code point
    incomplete, ///< all `length` bytes are the beginning of one
    broken      ///< `length` bytes can never become one; the next may begin another
  };
  kind is;
  std::uint8_t length;
  char32_t value; ///< of `whole`
};
/// `bytes` is not empty. `broken` takes the longest beginning of a code point, as Unicode recommends for U+FFFD.
utf8_front front_of(std::string_view bytes) noexcept;

/// Appends the code point, which is at most U+10FFFF.
void append_utf8(std::string& out, char32_t value);

} // namespace troupe::base
