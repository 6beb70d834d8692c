#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocols/ids.hpp"

/// How the tokens of a request are chosen. `gpu/choice.hpp` chooses by it; every rank that chooses gets all of it.
/// A message names its fields once, in `fields` (wire/codec.hpp).
namespace troupe::protocols {

/// Added to the logit of `id`.
struct token_bias {
  token_id id = 0;
  float value = 0.0F;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.id, self.value);
  }
  bool operator==(const token_bias&) const = default;
};

/// The settings beside temperature, top_p and seed. Messages append them as a field of their own: those three are
/// inside lists of required fields, which never grow (A17). All defaults are 0 or empty, and change nothing.
struct sampling_rules {
  std::uint32_t top_k = 0;               ///< choose among this many of the likeliest tokens; 0: among all
  float min_p = 0.0F;                    ///< leave out tokens whose probability is below this share of the highest
  float presence_penalty = 0.0F;         ///< subtracted from the logit of a token that the answer contains
  float frequency_penalty = 0.0F;        ///< subtracted once for each time that the answer contains it
  float repetition_penalty = 0.0F;       ///< for tokens of prompt or answer: divides a positive logit, multiplies
                                         ///< any other; 0 and 1: no penalty
  std::vector<token_bias> bias = {};     ///< at most `limits::logit_bias_max`, ascending by id, no id twice
  std::uint32_t min_tokens = 0;          ///< until the answer has this many, no token of `stop_ids` is chosen
  std::vector<token_id> stop_ids = {};   ///< from a client: its own; in an order to a cell: all that end the answer
  bool ignore_eos = false;               ///< the model's end tokens do not end the answer
  bool logprobs = false;                 ///< report the log-probability of each token
  std::uint32_t top_logprobs = 0;        ///< and of this many likeliest tokens; at most `limits::top_logprobs_max`
  std::vector<token_id> prompt_ids = {}; ///< in an order to a cell, if `repeats_cost`: the prompt's, ascending, each
                                         ///< once; ignored from a client

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.top_k, self.min_p, self.presence_penalty, self.frequency_penalty, self.repetition_penalty,
                     self.bias, self.min_tokens, self.stop_ids, self.ignore_eos, self.logprobs, self.top_logprobs,
                     self.prompt_ids);
  }
  bool operator==(const sampling_rules&) const = default;

  /// Whether any rule changes logits before a token is chosen.
  bool change_logits() const noexcept {
    return counts_tokens() || !bias.empty() || (min_tokens > 0 && !stop_ids.empty());
  }
  /// Whether there is a penalty on tokens of the prompt.
  bool repeats_cost() const noexcept { return repetition_penalty != 0.0F && repetition_penalty != 1.0F; }
  /// Whether any rule depends on the tokens of prompt or answer.
  bool counts_tokens() const noexcept {
    return presence_penalty != 0.0F || frequency_penalty != 0.0F || repeats_cost();
  }
  bool are_plain() const noexcept { return !change_logits() && top_k == 0 && min_p == 0.0F && !logprobs; }
  /// How many log-probabilities are reported with a token: its own, and those of the likeliest.
  std::uint32_t told() const noexcept { return logprobs ? 1 + top_logprobs : 0; }
};

/// All settings of sampling. Greedy if `temperature` is 0.
struct sampling_options {
  float temperature = 0.0F;
  float top_p = 1.0F;
  std::uint64_t seed = 0;
  sampling_rules rules = {}; ///< not in `fields`: the message that has these options appends them

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.temperature, self.top_p, self.seed);
  }
  bool operator==(const sampling_options&) const = default;
};

/// The natural logarithm of a token's probability, from the model's own logits, before penalties, bias and temperature.
struct token_logprob {
  token_id id = 0;
  float value = 0.0F;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.id, self.value);
  }
  bool operator==(const token_logprob&) const = default;
};

/// What `find_invalid` compares options with.
struct sampling_bounds {
  std::uint32_t vocabulary = 0; ///< of the model; the largest allowed one where the model is not known
  std::size_t stop_ids_max = 0; ///< `limits::stop_ids_max` from a client, `limits::ending_ids_max` in an order
};
/// Says in words which field is invalid, and what would be valid; none: the options are valid.
std::optional<std::string> find_invalid(const sampling_options& options, const sampling_bounds& bounds);

/// The ids, ascending, each once.
std::vector<token_id> distinct(const std::vector<token_id>& ids);

} // namespace troupe::protocols
