#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/limits.hpp"
#include "protocols/serve/sampling_options.hpp"
#include "tests/sim/draw.hpp"

/// The simulated model. An answer is a hash of what stood in memory when it was computed, so a wrong byte gives a wrong
/// answer. The same functions give the answer of a question asked alone, without any memory.
namespace troupe::sim {

inline constexpr std::uint32_t vocabulary = 997;
inline constexpr protocols::token_id image_token = 900;
inline constexpr protocols::token_id end_token = 3;
inline constexpr protocols::token_id not_finite = -2; ///< as `step_machine::not_finite`

/// One merged patch of a picture.
constexpr std::uint64_t pixel_word(std::uint64_t picture, std::uint32_t patch) noexcept {
  return mix(mix(picture, 0xF1), patch);
}
/// Over all patches, in order.
constexpr std::uint64_t seen(std::uint64_t before, std::uint64_t pixel) noexcept {
  return mix(before, pixel);
}
/// Embedding row of a patch.
constexpr std::uint64_t row_word(std::uint64_t picture_seen, std::uint32_t row) noexcept {
  return mix(mix(picture_seen, 0x50), row);
}
/// What a token adds to the block that holds it; `row`: of a picture's token.
constexpr std::uint64_t token_word(protocols::token_id id, std::uint64_t row) noexcept {
  return mix(mix(static_cast<std::uint64_t>(static_cast<std::uint32_t>(id)), 0x70), row);
}
/// A block after one more of its tokens; `before`: the blocks before it, for the first.
constexpr std::uint64_t grown(std::uint64_t block_or_before, std::uint64_t token) noexcept {
  return mix(block_or_before, token);
}
/// All blocks up to and with this one.
constexpr std::uint64_t folded(std::uint64_t before, std::uint64_t block) noexcept {
  return mix(before, block ^ 0xB10C);
}
/// What a rank's share of a block looks like: every head and layer stores it in a form of its own.
constexpr std::uint64_t share_mask(std::uint32_t head, std::uint32_t layer) noexcept {
  return mix(mix(head, 0x4EAD), layer);
}
/// What a request says of sampling, as a rank that chooses has it; 0 where it says nothing. Of its stop ids, which a
/// front changes on the way, only the ends of answers tell.
std::uint64_t sampling_word(const protocols::sampling_options& sampling) noexcept;
/// The token that follows a context of `length` tokens.
constexpr protocols::token_id chosen(std::uint64_t context, std::uint32_t length, std::uint64_t sampling) noexcept {
  const auto bits = sampling == 0 ? mix(context, length) : mix(mix(context, length), sampling);
  if (bits % 1021 == 5)
    return not_finite;
  return bits % 23 == 7 ? end_token : static_cast<protocols::token_id>((bits >> 16) % 800 + 10);
}

struct sim_picture {
  std::uint64_t content = 0;
  std::uint32_t rows = 1;    ///< of merged patches
  std::uint32_t columns = 1; ///< of merged patches
  std::uint32_t tokens() const noexcept { return rows * columns; }
};

struct sim_question {
  std::vector<protocols::token_id> prompt;
  std::vector<sim_picture> pictures;
  std::vector<std::uint32_t> first_tokens; ///< of each picture, in the prompt
  std::uint32_t max_tokens = 1;
  protocols::sampling_options sampling = {};
};

struct sim_answer {
  std::vector<protocols::token_id> tokens;
  bool not_finite = false; ///< fails behind these tokens
};

/// What the question gives when nothing else runs.
sim_answer answer_alone(const sim_question& question);

} // namespace troupe::sim
