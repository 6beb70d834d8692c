#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include <xxhash.h>

#include "gpu/models/model.hpp"

namespace troupe::gpu::models {

using protocols::token_id;

namespace {

/// In [0, 1), by seed and position alone.
double draw(std::uint64_t seed, std::uint64_t position) {
  const std::array<std::uint64_t, 2> key{seed, position};
  constexpr double step = 1.0 / 9007199254740992.0; // 2^-53
  return static_cast<double>(XXH3_64bits(key.data(), sizeof key) >> 11) * step;
}

struct candidate {
  token_id id;
  double weight;
};

token_id most_likely(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[best] || (std::isnan(logits[best]) && !std::isnan(logits[i])))
      best = i;
  return static_cast<token_id>(best);
}

} // namespace

token_id choose(std::span<const float> logits, const protocols::sampling_options& options, std::uint64_t position) {
  const token_id best = most_likely(logits);
  const double largest = logits[static_cast<std::size_t>(best)];
  if (!(options.temperature > 0.0F) || !std::isfinite(largest))
    return best;

  std::vector<candidate> candidates;
  candidates.reserve(logits.size());
  double total = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp((logits[i] - largest) / options.temperature);
    if (weight > 0.0) { // not so for NaN
      candidates.push_back({static_cast<token_id>(i), weight});
      total += weight;
    }
  }
  std::ranges::stable_sort(candidates, std::greater{}, &candidate::weight);

  // The nucleus: the likeliest tokens whose weights together first reach top_p of the whole.
  const double enough = std::clamp(static_cast<double>(options.top_p), 0.0, 1.0) * total;
  double kept = 0.0;
  std::size_t count = 0;
  do
    kept += candidates[count++].weight;
  while (count < candidates.size() && kept < enough);

  double left = draw(options.seed, position) * kept;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    left -= candidates[i].weight;
    if (left < 0.0)
      return candidates[i].id;
  }
  return candidates[count - 1].id;
}

} // namespace troupe::gpu::models
