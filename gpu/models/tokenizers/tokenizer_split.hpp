#pragma once

#include <optional>
#include <string_view>
#include <vector>

/// The published pre-tokenizer patterns, each scanned by hand: a regular expression engine over Unicode categories
/// would be the largest part of the tokenizer and serve three patterns.
namespace troupe::gpu::models {

struct split_pattern {
  enum class family {
    gpt2, ///< a space may stand before letters and numbers; contractions in lower case only
    gpt4  ///< any one character may stand before letters; line ends stand apart
  };
  family of = family::gpt2;
  std::size_t digits_max = 0; ///< of one piece; 0: no limit

  bool operator==(const split_pattern&) const = default;
};

/// The pattern of ByteLevel's own `use_regex`.
inline constexpr split_pattern gpt2_pattern{};
inline constexpr split_pattern qwen2_pattern{split_pattern::family::gpt4, 1};
inline constexpr split_pattern llama3_pattern{split_pattern::family::gpt4, 3};

/// The pattern that a published regular expression stands for, known by its exact text.
std::optional<split_pattern> pattern_of(std::string_view regex);

/// The pieces of `text`, in order; each is a part of it and none is empty.
std::vector<std::string_view> split(const split_pattern& pattern, std::string_view text);

} // namespace troupe::gpu::models
