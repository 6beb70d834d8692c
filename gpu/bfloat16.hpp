#pragma once

#include <bit>
#include <cstdint>

namespace troupe::gpu {

/// The upper half of an f32, as it lies in memory. Arithmetic is done in f32: it only widens and is rounded to.
struct bfloat16 {
  std::uint16_t bits = 0;
};

constexpr float widen(bfloat16 value) noexcept {
  return std::bit_cast<float>(std::uint32_t{value.bits} << 16);
}
/// To the nearest, halves to even, as the devices do. A NaN stays one.
constexpr bfloat16 narrow(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fff'ffffU) > 0x7f80'0000U)
    return {static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
  return {static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
}

} // namespace troupe::gpu
