#pragma once

#include <bit>
#include <cstdint>

#include "gpu/uniform_draw.hpp"
#include "protocols/limits.hpp"

/// What a sequence asks of its choices beyond temperature, top_p and seed, in the form that host and devices read.
///
/// Two tables say it. A *record* has the numbers and the lists of one sequence. A *mark* of each token of the
/// vocabulary says what the sequence has had of it: whether the prompt has it, how often the answer has it, and whether
/// a list of the record names it, so that lists are searched for those few tokens only.
namespace troupe::gpu {

/// Places of the 32-bit words of a record. Numbers that are not whole stand as the bits of an f32.
enum rule_word : int {
  rule_changes,    ///< 1: logits change, and marks are kept
  rule_top_k,      ///< 0: all
  rule_min_p,      ///< f32
  rule_presence,   ///< f32
  rule_frequency,  ///< f32
  rule_repetition, ///< f32, 1: none
  rule_min_tokens,
  rule_told,    ///< log-probabilities that are told of a token, its own first
  rule_biases,  ///< how many; ids ascending
  rule_endings, ///< how many; ids ascending: not chosen before min_tokens
  rule_bias_ids,
  rule_bias_values = rule_bias_ids + static_cast<int>(protocols::limits::logit_bias_max), ///< f32
  rule_ending_ids = rule_bias_values + static_cast<int>(protocols::limits::logit_bias_max),
  rule_words = rule_ending_ids + static_cast<int>(protocols::limits::ending_ids_max)
};

// A mark.
inline constexpr std::int32_t mark_in_prompt = 1;
inline constexpr std::int32_t mark_listed = 2;   ///< a list of the record names the token
inline constexpr std::int32_t mark_answered = 4; ///< for each time that the answer has it

/// Log-probabilities of one token, as words: an id, then the bits of an f32.
inline constexpr int told_entries = static_cast<int>(protocols::limits::top_logprobs_max) + 1;
inline constexpr int told_words = 2 * told_entries;

/// A logit that no other choice is left out for: below every one that a model gives.
inline constexpr float left_out = -3.402823466e+38F;

TROUPE_ON_DEVICES inline float float_of(std::int32_t bits) {
#if defined(__CUDA_ARCH__)
  return __int_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

/// Where `id` stands in an ascending list; `count` when it does not.
TROUPE_ON_DEVICES inline int place_in(const std::int32_t* ids, int count, std::int32_t id) {
  int first = 0;
  int last = count;
  while (first < last) {
    const int middle = (first + last) / 2;
    if (ids[middle] < id)
      first = middle + 1;
    else
      last = middle;
  }
  return first < count && ids[first] == id ? first : count;
}

/// The logit that is chosen by, from the model's: penalties, then bias, then what may not end the answer yet. In
/// doubles that are rounded once, so that host and devices get the same bits whether or not they fuse.
TROUPE_ON_DEVICES inline float ruled_logit(float logit, std::int32_t id, std::int32_t mark, const std::int32_t* record,
                                           std::uint64_t position) {
  if (mark == 0 || logit - logit != 0.0F) // what is not finite stays so, to be found
    return logit;
  double value = logit;
  const int times = mark / mark_answered;
  if (times > 0 || (mark & mark_in_prompt) != 0) {
    const double repetition = float_of(record[rule_repetition]);
    value = value > 0.0 ? value / repetition : value * repetition;
  }
  if (times > 0)
    value = value - static_cast<double>(float_of(record[rule_frequency])) * times - float_of(record[rule_presence]);
  if ((mark & mark_listed) != 0) {
    const int biases = record[rule_biases];
    if (const int at = place_in(record + rule_bias_ids, biases, id); at < biases)
      value += float_of(record[rule_bias_values + at]);
    const int endings = record[rule_endings];
    if (position < static_cast<std::uint64_t>(record[rule_min_tokens]) &&
        place_in(record + rule_ending_ids, endings, id) < endings)
      return left_out;
  }
  constexpr double most = 3.402823466e+38;
  value = value < -most ? -most : value > most ? most : value;
  return static_cast<float>(value);
}

} // namespace troupe::gpu
