#pragma once

#include <cstdint>
#include <string_view>

namespace troupe::protocols {

/// What a tensor's elements are, in the spec and in grants.
enum class element_type : std::uint8_t { f32 = 1, bf16 = 2, u8 = 3 };
constexpr bool is_valid(element_type type) noexcept {
  return type >= element_type::f32 && type <= element_type::u8;
}
constexpr std::string_view name(element_type type) noexcept {
  switch (type) {
  case element_type::f32:
    return "f32";
  case element_type::bf16:
    return "bf16";
  case element_type::u8:
    return "u8";
  }
  return "?";
}

} // namespace troupe::protocols
