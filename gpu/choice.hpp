#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

#include "gpu/not_finite.hpp"
#include "gpu/rule_record.hpp"
#include "gpu/uniform_draw.hpp"

namespace troupe::gpu {

/// How one token is chosen.
struct choice_options {
  float temperature = 0.0F; ///< 0: greedy
  float top_p = 1.0F;
  std::uint64_t seed = 0;
  const std::int32_t* record = nullptr;  ///< [rule_words], as `gpu/rule_record.hpp` lays it out; null: no rules
  std::span<const std::int32_t> marks{}; ///< [vocabulary], of each token; empty if the record changes no logit
};

/// The index of the largest logit, and of equal ones the lowest index: so the answer does not depend on how the work
/// before it was cut (G12). `not_finite`, if any logit is not finite.
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

/// Draws a token. Tokens are ordered by weight, then by id; top_k, top_p and min_p keep the likeliest; the uniform draw
/// of (seed, position) falls on one of these.
inline std::int32_t draw_token(std::span<const float> logits, std::int32_t best, const choice_options& options,
                               std::uint64_t position) {
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
  double least = 0.0;
  if (options.record != nullptr) {
    const auto top_k = static_cast<std::uint32_t>(options.record[rule_top_k]);
    if (top_k != 0 && top_k < candidates.size()) {
      candidates.resize(top_k);
      total = std::accumulate(candidates.begin(), candidates.end(), 0.0,
                              [](double sum, const candidate& each) { return sum + each.weight; });
    }
    least = float_of(options.record[rule_min_p]); // relative to the largest weight, which is 1
  }

  const double enough = std::clamp(static_cast<double>(options.top_p), 0.0, 1.0) * total;
  double kept = 0.0;
  std::size_t count = 0;
  do
    kept += candidates[count++].weight;
  while (count < candidates.size() && kept < enough && candidates[count].weight >= least);

  double left = uniform_draw(options.seed, position) * kept;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    left -= candidates[i].weight;
    if (left < 0.0)
      return candidates[i].id;
  }
  return candidates[count - 1].id;
}

/// Writes the log-probabilities that the record asks for: that of the chosen token, then those of the likeliest, which
/// may include the chosen one. They are of the model's own logits, before any rule and at temperature 1, as vLLM's
/// `raw_logprobs` are. `told`: [2 * entries], each an id and a float's bits; id -1: no such token.
inline void tell_logprobs(std::span<const float> logits, std::int32_t chosen, int entries, std::int32_t* told) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0.0;
  for (const float each : logits)
    sum += std::exp(each - largest);
  const double whole = largest + std::log(sum);
  const auto tell = [&](int at, std::int32_t id) {
    told[2 * at] = id;
    told[2 * at + 1] = std::bit_cast<std::int32_t>(static_cast<float>(logits[static_cast<std::size_t>(id)] - whole));
  };
  tell(0, chosen);
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto top = std::min<std::size_t>(static_cast<std::size_t>(entries - 1), ids.size());
  const auto likelier = [&](std::int32_t a, std::int32_t b) {
    const float of_a = logits[static_cast<std::size_t>(a)];
    const float of_b = logits[static_cast<std::size_t>(b)];
    return of_a > of_b || (of_a == of_b && a < b);
  };
  std::ranges::partial_sort(ids, ids.begin() + static_cast<std::ptrdiff_t>(top), likelier);
  for (int at = 1; at < entries; ++at)
    at <= static_cast<int>(top) ? tell(at, ids[static_cast<std::size_t>(at - 1)]) : void(told[2 * at] = -1);
}

/// Chooses a token id from one row of logits. The CPU's `operations::sample` is this function, and every other device's
/// is compared with it. Rules act in this order: penalties (repetition, frequency, presence), bias, tokens that may not
/// end the answer yet, temperature, top_k, top_p of what is left, min_p.
/// `told` [told_words]: receives the log-probabilities that the record asks for; may be null if it asks for none.
inline std::int32_t choose(std::span<const float> logits, const choice_options& options, std::uint64_t position,
                           std::int32_t* told = nullptr) {
  std::int32_t best = most_likely(logits);
  if (best == not_finite)
    return best;
  std::vector<float> ruled;
  auto from = logits;
  if (options.record != nullptr && options.record[rule_changes] != 0) {
    ruled.reserve(logits.size());
    for (std::size_t i = 0; i < logits.size(); ++i)
      ruled.push_back(ruled_logit(logits[i], static_cast<std::int32_t>(i), options.marks[i], options.record, position));
    from = ruled;
    best = most_likely(from);
  }
  const auto chosen = options.temperature > 0.0F ? draw_token(from, best, options, position) : best;
  if (options.record != nullptr && options.record[rule_told] > 0)
    tell_logprobs(logits, chosen, options.record[rule_told], told);
  return chosen;
}

} // namespace troupe::gpu
