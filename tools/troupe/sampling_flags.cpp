#include "tools/troupe/sampling_flags.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <limits>

#include "protocols/limits.hpp"
#include "tools/troupe/command_line.hpp"

namespace troupe::tools {

namespace {

/// Errors: nothing, where it is not as it should be.
std::optional<embed::token_bias> read_bias(const std::string& text) {
  embed::token_bias made;
  const auto* const end = text.data() + text.size();
  const auto id = std::from_chars(text.data(), end, made.id);
  if (id.ec != std::errc{} || id.ptr == end || *id.ptr != '=' || made.id < 0)
    return std::nullopt;
  const auto value = std::from_chars(id.ptr + 1, end, made.value);
  const bool is_fine = value.ec == std::errc{} && value.ptr == end && made.value >= -100.0F && made.value <= 100.0F;
  return is_fine ? std::optional{made} : std::nullopt;
}

/// Each flag that takes a number within a range.
template <class Number>
void add_number(CLI::App& command, const char* flag, const char* letter, Number& to, double least, double most,
                const char* what) {
  command.add_option(flag, to, what)
      ->type_name(letter)
      ->capture_default_str()
      ->check(CLI::Range(least, most).description(""));
}

} // namespace

void add_sampling_flags(CLI::App& command, sampling_flags& flags) {
  auto& sampling = flags.sampling;
  auto& rules = sampling;
  constexpr double any = std::numeric_limits<std::int32_t>::max();
  add_number(command, "--temperature", "T", sampling.temperature, 0.0, 100.0, "0 takes the likeliest token each time");
  add_number(command, "--top-p", "P", sampling.top_p, 0.0001, 1.0, "choose among the likeliest tokens of this total");
  add_number(command, "--top-k", "K", rules.top_k, 0, any, "choose among so many likeliest tokens; 0: among all");
  add_number(command, "--min-p", "P", rules.min_p, 0.0, 1.0,
             "leave out tokens less likely than this share of the likeliest");
  command.add_option("--seed", flags.seed, "of the choices; equal seeds give equal answers; default: drawn")
      ->type_name("S")
      ->check(whole_number());
  add_number(command, "--presence-penalty", "X", rules.presence_penalty, -2.0, 2.0, "on tokens that the answer has");
  add_number(command, "--frequency-penalty", "X", rules.frequency_penalty, -2.0, 2.0,
             "on tokens, for each time that the answer has them");
  rules.repetition_penalty = 1.0F;
  add_number(command, "--repetition-penalty", "X", rules.repetition_penalty, 0.01, 100.0,
             "on tokens that prompt or answer has; 1: none");
  command
      .add_option("--logit-bias", flags.biases,
                  fmt::format("-100 to 100, added to the logit of token ID; at most {} times",
                              protocols::limits::logit_bias_max))
      ->type_name("ID=X")
      ->allow_extra_args(false)
      ->check(CLI::Validator(
          [](std::string& text) {
            return read_bias(text) ? std::string{} : text + " is no bias; write ID=X, as 42=-5, X from -100 to 100";
          },
          ""));
  add_number(command, "--min-tokens", "N", rules.min_tokens, 0, any, "end no answer before so many tokens");
  command.add_option("--stop-id", rules.stop_ids, "a token that ends the answer; may stand several times")
      ->type_name("ID")
      ->allow_extra_args(false)
      ->check(whole_number());
  command.add_flag("--ignore-eos", rules.ignore_eos, "do not end at the model's own end tokens");
  command
      .add_option("--logprobs", flags.logprobs,
                  fmt::format("with --json: how likely each token was, and the N likeliest; 0 to {}",
                              protocols::limits::top_logprobs_max))
      ->type_name("N")
      ->check(CLI::Range(0u, protocols::limits::top_logprobs_max).description(""));
}

void apply(const sampling_flags& flags, embed::question& to) {
  to.sampling = flags.sampling;
  to.sampling.seed = flags.seed.value_or(0);
  to.draws_seed = !flags.seed.has_value();
  auto& rules = to.sampling;
  for (const auto& each : flags.biases)
    if (const auto bias = read_bias(each))
      rules.bias.push_back(*bias);
  std::ranges::sort(rules.bias, {}, &embed::token_bias::id);
  rules.logprobs = flags.logprobs.has_value();
  rules.top_logprobs = flags.logprobs.value_or(0);
}

} // namespace troupe::tools
