#include "tests/sim/simulated_model.hpp"

#include <algorithm>
#include <bit>

namespace troupe::sim {

namespace {

/// A context without memory.
struct plain_context {
  std::uint64_t before = 0; ///< whole blocks
  std::uint64_t block = 0;  ///< the one that grows
  std::uint32_t length = 0;

  void add(std::uint64_t token) {
    const auto at = length % protocols::limits::kv_block_tokens;
    if (at == 0 && length > 0)
      before = folded(before, block);
    block = grown(at == 0 ? before : block, token);
    ++length;
  }
  protocols::token_id choose(std::uint64_t sampling) const { return chosen(folded(before, block), length, sampling); }
};

} // namespace

std::uint64_t sampling_word(const protocols::sampling_options& sampling) noexcept {
  auto plain = sampling;
  plain.rules.stop_ids.clear();
  plain.rules.ignore_eos = false;
  if (plain == protocols::sampling_options{})
    return 0;
  const auto& rules = sampling.rules;
  std::uint64_t all = mix(sampling.seed, 0x5A);
  for (const float each : {sampling.temperature, sampling.top_p, rules.min_p, rules.presence_penalty,
                           rules.frequency_penalty, rules.repetition_penalty})
    all = mix(all, std::bit_cast<std::uint32_t>(each));
  all = mix(mix(mix(all, rules.top_k), rules.min_tokens), rules.told());
  for (const auto& each : rules.bias)
    all = mix(mix(all, static_cast<std::uint32_t>(each.id)), std::bit_cast<std::uint32_t>(each.value));
  for (const auto id : rules.prompt_ids)
    all = mix(all, static_cast<std::uint32_t>(id));
  return all | 1;
}

sim_answer answer_alone(const sim_question& question) {
  std::vector<std::uint64_t> rows(question.prompt.size());
  for (std::size_t i = 0; i < question.pictures.size(); ++i) {
    const auto& picture = question.pictures[i];
    std::uint64_t all = 0;
    for (std::uint32_t patch = 0; patch < picture.tokens(); ++patch)
      all = seen(all, pixel_word(picture.content, patch));
    for (std::uint32_t row = 0; row < picture.tokens(); ++row)
      rows[question.first_tokens[i] + row] = row_word(all, row);
  }
  plain_context context;
  for (std::size_t i = 0; i < question.prompt.size(); ++i)
    context.add(token_word(question.prompt[i], rows[i]));
  auto sampling = question.sampling;
  if (sampling.rules.repeats_cost())
    sampling.rules.prompt_ids = protocols::distinct(question.prompt);
  const auto word = sampling_word(sampling);
  const auto& rules = sampling.rules;
  sim_answer answer;
  while (answer.tokens.size() < question.max_tokens) {
    const auto next = context.choose(word);
    if (next == not_finite) {
      answer.not_finite = true;
      break;
    }
    answer.tokens.push_back(next);
    const bool ends = (next == end_token && !rules.ignore_eos) || std::ranges::count(rules.stop_ids, next) > 0;
    if (ends && answer.tokens.size() > rules.min_tokens)
      break;
    context.add(token_word(next, 0));
  }
  return answer;
}

} // namespace troupe::sim
