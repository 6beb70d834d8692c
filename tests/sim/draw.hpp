#pragma once

#include <cstdint>

#include "protocols/time.hpp"

namespace troupe::sim {

/// One step of a hash: the same on every compiler and machine.
constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  a += 0x9E3779B97F4A7C15 + b;
  a = (a ^ (a >> 30)) * 0xBF58476D1CE4E5B9;
  a = (a ^ (a >> 27)) * 0x94D049BB133111EB;
  return a ^ (a >> 31);
}

/// What a seed decides. The distributions of the standard library differ between implementations, so these are our own,
/// and none uses floating point. Source: splitmix64.
class draw {
public:
  explicit draw(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept { return mix(state_++, 0x7275); }
  /// Of [0, end); 0 when `end` is 0.
  std::uint64_t below(std::uint64_t end) noexcept { return end == 0 ? 0 : next() % end; }
  /// Of [first, last].
  std::uint64_t between(std::uint64_t first, std::uint64_t last) noexcept { return first + below(last - first + 1); }
  /// True `of` times in 65,536.
  bool chance(std::uint32_t of) noexcept { return (next() & 0xFFFF) < of; }
  /// Around `mean`, from a sixteenth of it to eight times as much: each doubling is half as likely.
  protocols::duration around(protocols::duration mean) noexcept {
    const auto bits = next();
    auto span = mean.count() / 2;
    for (auto rest = bits >> 32; (rest & 1) != 0 && span < mean.count() * 8; rest >>= 1)
      span *= 2;
    return protocols::duration{mean.count() / 16 +
                               static_cast<std::int64_t>(((bits & 0xFFFF) * static_cast<std::uint64_t>(span)) >> 16)};
  }
  /// A generator of its own for one part, so that what one part draws does not shift what another does.
  draw split(std::uint64_t part) noexcept { return draw{mix(next(), part)}; }

private:
  std::uint64_t state_;
};

} // namespace troupe::sim
