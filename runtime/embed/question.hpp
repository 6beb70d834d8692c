#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace troupe::embed {

/// The bytes of a picture file: PNG, JPEG or WebP.
struct picture_file {
  std::string name; ///< for error messages
  std::vector<std::byte> bytes;
};

/// Added to the logit of token `id`; -100 to 100.
struct token_bias {
  std::int32_t id = 0;
  float value = 0.0F;

  bool operator==(const token_bias&) const = default;
};

/// How tokens are chosen. Greedy if `temperature` is 0. The other defaults have no effect.
struct sampling {
  float temperature = 0.0F;
  float top_p = 1.0F;
  std::uint64_t seed = 0;                  ///< the same question with the same seed gets the same answer
  std::uint32_t top_k = 0;                 ///< choose among this many of the likeliest tokens; 0: among all
  float min_p = 0.0F;                      ///< leave out tokens whose probability is below this share of the highest
  float presence_penalty = 0.0F;           ///< subtracted from the logit of a token that the answer contains
  float frequency_penalty = 0.0F;          ///< subtracted once for each time that the answer contains it
  float repetition_penalty = 0.0F;         ///< on tokens of prompt or answer; 0 and 1: no penalty
  std::vector<token_bias> bias = {};       ///< ascending by id, no id twice
  std::uint32_t min_tokens = 0;            ///< until the answer has this many, no token that ends it is chosen
  std::vector<std::int32_t> stop_ids = {}; ///< tokens that end the answer, beside the model's own
  bool ignore_eos = false;                 ///< the model's end tokens do not end the answer
  bool logprobs = false;                   ///< report the log-probability of each token
  std::uint32_t top_logprobs = 0;          ///< and of this many likeliest tokens

  bool operator==(const sampling&) const = default;
};

inline constexpr std::size_t prompt_bytes_max = 256 * 1024;
inline constexpr std::size_t pictures_max = 16; ///< of one question

/// What a client asks: a prompt, its pictures, and how to answer.
struct question {
  std::string prompt;                 ///< at most `prompt_bytes_max`
  std::vector<picture_file> pictures; ///< at most `pictures_max`
  std::uint32_t max_tokens = 128;     ///< of the answer; 0: as many as the context has room for
  embed::sampling sampling;           ///< greedy unless said otherwise
  bool draws_seed = false;            ///< the front draws the seed; `accepted` reports it
  std::uint32_t timeout_ms = 0;       ///< from `ask` to the end of the answer, at most the spec's; 0: the spec's
  std::int32_t priority = 0;          ///< lower values are served first
  std::string name = {};              ///< names the request in logs; at most 128 printable characters
};

} // namespace troupe::embed
