#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define TROUPE_ON_DEVICES __host__ __device__
#else
#define TROUPE_ON_DEVICES
#endif

namespace troupe::gpu {

/// XXH3-64 of the sixteen bytes of (seed, position), so that a host and its devices draw alike.
/// Source: xxHash, XXH3_len_9to16_64b with the default secret.
TROUPE_ON_DEVICES constexpr std::uint64_t hash_pair(std::uint64_t seed, std::uint64_t position) {
  __extension__ using wide = unsigned __int128;
  const std::uint64_t low = seed ^ 0x6782'737b'ea42'39b9U;
  const std::uint64_t high = position ^ 0xaf56'bc3b'0996'523aU;
  std::uint64_t swapped = 0;
  for (int byte = 0; byte < 8; ++byte)
    swapped |= (low >> (8 * byte) & 0xffU) << (56 - 8 * byte);
  const wide product = static_cast<wide>(low) * high;
  std::uint64_t sum =
      16 + swapped + high + (static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64));
  sum ^= sum >> 37;
  sum *= 0x1656'6791'9e37'79f9U;
  return sum ^ (sum >> 32);
}

/// In [0, 1), by seed and position alone (G10).
TROUPE_ON_DEVICES constexpr double uniform_draw(std::uint64_t seed, std::uint64_t position) {
  constexpr double step = 1.0 / 9007199254740992.0; // 2^-53
  return static_cast<double>(hash_pair(seed, position) >> 11) * step;
}

} // namespace troupe::gpu
