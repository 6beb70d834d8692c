#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocols/ids.hpp"

/// How the tokens of a request are chosen. `gpu/choice.hpp` carries it out; every rank that chooses gets all of it.
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

/// What came after temperature, top_p and seed. Messages append it, since those three stand inside required lists.
/// The defaults, which are 0 (A17), change nothing.
struct sampling_rules {
  std::uint32_t top_k = 0;           ///< choose among so many likeliest; 0: among all
  float min_p = 0.0F;                ///< leave out tokens less likely than this share of the likeliest
  float presence_penalty = 0.0F;     ///< taken from the logit of a token that the answer has
  float frequency_penalty = 0.0F;    ///< the same, for each time that it has it
  float repetition_penalty = 0.0F;   ///< divides a positive logit, multiplies another, of tokens that prompt or answer
                                     ///< has; 0 is none, as 1 is
  std::vector<token_bias> bias = {}; ///< at most `limits::logit_bias_max`, ascending by id, no id twice
  std::uint32_t min_tokens = 0;      ///< before so many are there, no token of `stop_ids` is chosen
  std::vector<token_id> stop_ids = {};   ///< of a client: its own; of an order to a cell: all that would end the answer
  bool ignore_eos = false;               ///< the model's end tokens end nothing
  bool logprobs = false;                 ///< tell of each token how likely it was
  std::uint32_t top_logprobs = 0;        ///< and of so many likeliest beside it; at most `limits::top_logprobs_max`
  std::vector<token_id> prompt_ids = {}; ///< of an order to a cell: the prompt's, ascending, once each, where
                                         ///< `repeats_cost`; what a client states of them is not used

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.top_k, self.min_p, self.presence_penalty, self.frequency_penalty, self.repetition_penalty,
                     self.bias, self.min_tokens, self.stop_ids, self.ignore_eos, self.logprobs, self.top_logprobs,
                     self.prompt_ids);
  }
  bool operator==(const sampling_rules&) const = default;

  /// Whether logits are to be changed before a token is chosen.
  bool change_logits() const noexcept {
    return counts_tokens() || !bias.empty() || (min_tokens > 0 && !stop_ids.empty());
  }
  /// Whether there is a penalty on tokens of the prompt.
  bool repeats_cost() const noexcept { return repetition_penalty != 0.0F && repetition_penalty != 1.0F; }
  /// Whether it matters which tokens were there before.
  bool counts_tokens() const noexcept {
    return presence_penalty != 0.0F || frequency_penalty != 0.0F || repeats_cost();
  }
  bool are_plain() const noexcept { return !change_logits() && top_k == 0 && min_p == 0.0F && !logprobs; }
  /// Entries of a token's log-probabilities: its own, then those of the likeliest.
  std::uint32_t told() const noexcept { return logprobs ? 1 + top_logprobs : 0; }
};

/// Greedy when `temperature` is 0.
struct sampling_options {
  float temperature = 0.0F;
  float top_p = 1.0F;
  std::uint64_t seed = 0;
  sampling_rules rules = {}; ///< not among the fields: the message that has these options appends them

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.temperature, self.top_p, self.seed);
  }
  bool operator==(const sampling_options&) const = default;
};

/// The natural logarithm of a token's probability, by the model's own logits: before penalties, bias and temperature.
struct token_logprob {
  token_id id = 0;
  float value = 0.0F;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.id, self.value);
  }
  bool operator==(const token_logprob&) const = default;
};

struct sampling_bounds {
  std::uint32_t vocabulary = 0; ///< of the model; where it is not known, the most
  std::size_t stop_ids_max = 0; ///< `limits::stop_ids_max` of a client, `limits::ending_ids_max` of an order to a cell
};
/// What is wrong with them, in words, with the name of the field and what would be valid.
std::optional<std::string> find_invalid(const sampling_options& options, const sampling_bounds& bounds);

/// The ids of a text, ascending, once each.
std::vector<token_id> distinct(const std::vector<token_id>& ids);

} // namespace troupe::protocols
