#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace troupe::embed {

/// A picture file as it lies on disk: PNG, JPEG or WebP.
struct picture_file {
  std::string name; ///< for error lines
  std::vector<std::byte> bytes;
};

/// Added to the logit of token `id`; -100 to 100.
struct token_bias {
  std::int32_t id = 0;
  float value = 0.0F;

  bool operator==(const token_bias&) const = default;
};

/// How tokens are chosen. Greedy when `temperature` is 0. The other defaults change nothing.
struct sampling {
  float temperature = 0.0F;
  float top_p = 1.0F;
  std::uint64_t seed = 0;            ///< equal seeds give equal answers
  std::uint32_t top_k = 0;           ///< choose among so many likeliest; 0: among all
  float min_p = 0.0F;                ///< leave out tokens less likely than this share of the likeliest
  float presence_penalty = 0.0F;     ///< taken from the logit of a token that the answer has
  float frequency_penalty = 0.0F;    ///< the same, for each time that it has it
  float repetition_penalty = 0.0F;   ///< on tokens that prompt or answer has; 0 is none, as 1 is
  std::vector<token_bias> bias = {}; ///< ascending by id, no id twice
  std::uint32_t min_tokens = 0;      ///< before so many are there, no token that ends the answer is chosen
  std::vector<std::int32_t> stop_ids = {}; ///< that end the answer, beside the model's own
  bool ignore_eos = false;           ///< the model's end tokens end nothing
  bool logprobs = false;             ///< tell of each token how likely it was
  std::uint32_t top_logprobs = 0;    ///< and of so many likeliest beside it

  bool operator==(const sampling&) const = default;
};

inline constexpr std::size_t prompt_bytes_max = 256 * 1024;
inline constexpr std::size_t pictures_max = 16; ///< of one question

struct question {
  std::string prompt;                 ///< at most `prompt_bytes_max`
  std::vector<picture_file> pictures; ///< at most `pictures_max`
  std::uint32_t max_tokens = 128;     ///< 0: as many as there is room for
  embed::sampling sampling;           ///< greedy unless said otherwise
  bool draws_seed = false;            ///< let the front draw the seed; `accepted` tells it
  std::uint32_t timeout_ms = 0;       ///< from `ask` to the end of the answer; 0: what the spec gives, which is the most
  std::int32_t priority = 0;          ///< the lower, the sooner
  std::string name = {};              ///< of the request, in logs; at most 128 printable characters
};

} // namespace troupe::embed
