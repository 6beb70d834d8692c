#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "gpu/not_finite.hpp"
#include "gpu/uniform_draw.hpp"

namespace troupe::gpu {

struct choice_options {
  float temperature = 0.0F; ///< 0: greedy
  float top_p = 1.0F;
  std::uint64_t seed = 0;
};

/// The largest, and the lowest place of equals: one answer however the work before it is cut (G12). Or `not_finite`.
inline std::int32_t most_likely(std::span<const float> logits) {
  constexpr std::uint32_t exponent = 0x7f80'0000;
  std::size_t best = 0;
  bool finite = true;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    finite &= (std::bit_cast<std::uint32_t>(logits[i]) & exponent) != exponent;
    if (logits[i] > logits[best])
      best = i;
  }
  return finite ? static_cast<std::int32_t>(best) : not_finite;
}

/// Chooses a place of one row of logits: the oracle of every device's `operations::sample`, and a CPU's own.
/// Tokens are ordered by weight, then by place; of the nucleus, the likeliest whose weights together first reach top_p
/// of the whole, the one is taken in which the draw of (seed, position) falls.
inline std::int32_t choose(std::span<const float> logits, const choice_options& options, std::uint64_t position) {
  const std::int32_t best = most_likely(logits);
  if (best == not_finite || !(options.temperature > 0.0F))
    return best;
  const double largest = logits[static_cast<std::size_t>(best)];

  struct candidate {
    std::int32_t id;
    double weight;
  };
  std::vector<candidate> candidates;
  candidates.reserve(logits.size());
  double total = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp((logits[i] - largest) / options.temperature);
    if (weight > 0.0) {
      candidates.push_back({static_cast<std::int32_t>(i), weight});
      total += weight;
    }
  }
  std::ranges::stable_sort(candidates, std::greater{}, &candidate::weight);

  const double enough = std::clamp(static_cast<double>(options.top_p), 0.0, 1.0) * total;
  double kept = 0.0;
  std::size_t count = 0;
  do
    kept += candidates[count++].weight;
  while (count < candidates.size() && kept < enough);

  double left = uniform_draw(options.seed, position) * kept;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    left -= candidates[i].weight;
    if (left < 0.0)
      return candidates[i].id;
  }
  return candidates[count - 1].id;
}

} // namespace troupe::gpu
