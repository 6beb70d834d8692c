#include "protocols/serve/sampling_options.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "protocols/limits.hpp"

namespace troupe::protocols {

namespace {

std::string in_words(float value) {
  auto text = std::to_string(value);
  if (text.find('.') != std::string::npos)
    text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.'))
    text.pop_back();
  return text;
}

/// Not so for what is no number.
bool is_within(float value, float least, float most) {
  return value >= least && value <= most;
}

std::optional<std::string> find_bad_id(std::string_view field, token_id id, std::uint32_t vocabulary) {
  if (id >= 0 && static_cast<std::uint32_t>(id) < vocabulary)
    return std::nullopt;
  return std::string{field} + " names token " + std::to_string(id) + "; the model has 0 to " +
         std::to_string(vocabulary - 1);
}

std::optional<std::string> find_bad_lists(const sampling_rules& rules, const sampling_bounds& bounds) {
  if (rules.bias.size() > limits::logit_bias_max)
    return "logit_bias has " + std::to_string(rules.bias.size()) + " tokens; at most " +
           std::to_string(limits::logit_bias_max);
  if (rules.stop_ids.size() > bounds.stop_ids_max)
    return "stop_token_ids has " + std::to_string(rules.stop_ids.size()) + " tokens; at most " +
           std::to_string(bounds.stop_ids_max);
  for (const auto& each : rules.bias) {
    if (auto bad = find_bad_id("logit_bias", each.id, bounds.vocabulary))
      return bad;
    if (!is_within(each.value, -100.0F, 100.0F))
      return "logit_bias of token " + std::to_string(each.id) + " is " + in_words(each.value) + "; -100 to 100";
  }
  if (std::ranges::adjacent_find(rules.bias, std::ranges::greater_equal{}, &token_bias::id) != rules.bias.end())
    return "logit_bias is to be in ascending order of its tokens, each once";
  for (const auto id : rules.stop_ids)
    if (auto bad = find_bad_id("stop_token_ids", id, bounds.vocabulary))
      return bad;
  for (const auto id : rules.prompt_ids)
    if (auto bad = find_bad_id("prompt_ids", id, bounds.vocabulary))
      return bad;
  return std::nullopt;
}

} // namespace

std::optional<std::string> find_invalid(const sampling_options& options, const sampling_bounds& bounds) {
  struct range {
    std::string_view field;
    float value;
    float least;
    float most;
  };
  const auto& rules = options.rules;
  const float repetition = rules.repeats_cost() ? rules.repetition_penalty : 1.0F;
  constexpr float tiniest = std::numeric_limits<float>::min();
  for (const auto& each : {range{"temperature", options.temperature, 0.0F, std::numeric_limits<float>::max()},
                           range{"top_p", options.top_p, tiniest, 1.0F}, range{"min_p", rules.min_p, 0.0F, 1.0F},
                           range{"presence_penalty", rules.presence_penalty, -2.0F, 2.0F},
                           range{"frequency_penalty", rules.frequency_penalty, -2.0F, 2.0F},
                           range{"repetition_penalty", repetition, 0.01F, 100.0F}})
    if (!is_within(each.value, each.least, each.most)) {
      const auto least = each.least == tiniest ? "above 0" : in_words(each.least);
      const auto most =
          each.most == std::numeric_limits<float>::max() ? std::string{"any finite number"} : in_words(each.most);
      std::string words{each.field};
      words += " is ";
      words += in_words(each.value);
      words += "; ";
      words += least;
      words += " to ";
      words += most;
      return words;
    }
  if (rules.top_logprobs > limits::top_logprobs_max)
    return "top_logprobs is " + std::to_string(rules.top_logprobs) + "; at most " +
           std::to_string(limits::top_logprobs_max);
  if (rules.top_logprobs > 0 && !rules.logprobs)
    return "top_logprobs is " + std::to_string(rules.top_logprobs) + " without logprobs";
  return find_bad_lists(rules, bounds);
}

std::vector<token_id> distinct(const std::vector<token_id>& ids) {
  auto once = ids;
  std::ranges::sort(once);
  once.erase(std::unique(once.begin(), once.end()), once.end()); // clang 14 takes no std::ranges::unique
  return once;
}

} // namespace troupe::protocols
