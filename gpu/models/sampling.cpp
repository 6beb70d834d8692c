#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "gpu/choice.hpp"
#include "gpu/models/model.hpp"
#include "gpu/models/rule_tables.hpp"
#include "runtime/base/assert.hpp"

namespace troupe::gpu::models {

using namespace protocols;

namespace {

std::int32_t bits_of(float value) {
  return std::bit_cast<std::int32_t>(value);
}

} // namespace

void write_record(const sampling_rules& rules, std::span<std::int32_t> record) {
  TROUPE_ASSERT("rules", record.size() == rule_words && rules.bias.size() <= limits::logit_bias_max &&
                             rules.stop_ids.size() <= limits::ending_ids_max && rules.told() <= told_entries);
  record[rule_changes] = rules.change_logits() ? 1 : 0;
  record[rule_top_k] = static_cast<std::int32_t>(rules.top_k);
  record[rule_min_p] = bits_of(rules.min_p);
  record[rule_presence] = bits_of(rules.presence_penalty);
  record[rule_frequency] = bits_of(rules.frequency_penalty);
  record[rule_repetition] = bits_of(rules.repeats_cost() ? rules.repetition_penalty : 1.0F);
  record[rule_min_tokens] =
      static_cast<std::int32_t>(std::min<std::uint32_t>(rules.min_tokens, std::numeric_limits<std::int32_t>::max()));
  record[rule_told] = static_cast<std::int32_t>(rules.told());
  record[rule_biases] = static_cast<std::int32_t>(rules.bias.size());
  record[rule_endings] = static_cast<std::int32_t>(rules.stop_ids.size());
  for (std::size_t i = 0; i < rules.bias.size(); ++i) {
    record[rule_bias_ids + i] = rules.bias[i].id;
    record[rule_bias_values + i] = bits_of(rules.bias[i].value);
  }
  std::ranges::copy(rules.stop_ids, record.begin() + rule_ending_ids);
  std::ranges::sort(record.subspan(rule_ending_ids, rules.stop_ids.size()));
}

void write_marks(const sampling_rules& rules, std::span<std::int32_t> marks) {
  std::ranges::fill(marks, 0);
  const auto mark = [&](token_id id) -> std::int32_t& {
    TROUPE_ASSERT("rules", id >= 0 && static_cast<std::size_t>(id) < marks.size());
    return marks[static_cast<std::size_t>(id)];
  };
  if (rules.repeats_cost())
    for (const auto id : rules.prompt_ids)
      mark(id) |= mark_in_prompt;
  for (const auto& each : rules.bias)
    mark(each.id) |= mark_listed;
  for (const auto id : rules.stop_ids)
    mark(id) |= mark_listed;
}

void mark_answer(std::span<const token_id> answer, std::span<std::int32_t> marks) {
  for (const auto id : answer)
    marks[static_cast<std::size_t>(id)] += mark_answered;
}

void read_told(std::span<const std::int32_t> words, std::vector<token_logprob>& told) {
  for (std::size_t i = 0; i + 1 < words.size(); i += 2)
    told.push_back({words[i], float_of(words[i + 1])});
}

token_id choose(std::span<const float> logits, const sampling_options& options, std::uint64_t position) {
  return gpu::choose(logits, {options.temperature, options.top_p, options.seed}, position);
}

token_id choose(std::span<const float> logits, const sampling_options& options, const answer_so_far& so_far,
                std::vector<token_logprob>& told) {
  if (options.rules.are_plain())
    return choose(logits, options, so_far.position);
  std::array<std::int32_t, rule_words> record{};
  write_record(options.rules, record);
  std::vector<std::int32_t> marks(options.rules.change_logits() ? logits.size() : 0);
  if (!marks.empty()) {
    write_marks(options.rules, marks);
    mark_answer(so_far.tokens, marks);
  }
  std::array<std::int32_t, told_words> words{};
  const auto chosen = gpu::choose(logits, {options.temperature, options.top_p, options.seed, record.data(), marks},
                                  so_far.position, words.data());
  if (chosen != not_finite)
    read_told(std::span{words}.first(2 * std::size_t{options.rules.told()}), told);
  return chosen;
}

} // namespace troupe::gpu::models
