#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace troupe::embed {

/// A picture file as it lies on disk: PNG or JPEG.
struct picture_file {
  std::string name; ///< for error lines
  std::vector<std::byte> bytes;
};

/// How tokens are chosen. Greedy when `temperature` is 0.
struct sampling {
  float temperature = 0.0F;
  float top_p = 1.0F;
  std::uint64_t seed = 0; ///< equal seeds give equal answers

  bool operator==(const sampling&) const = default;
};

inline constexpr std::size_t prompt_bytes_max = 256 * 1024;
inline constexpr std::size_t pictures_max = 16; ///< of one question

struct question {
  std::string prompt;                 ///< at most `prompt_bytes_max`
  std::vector<picture_file> pictures; ///< at most `pictures_max`
  std::uint32_t max_tokens = 128;
  embed::sampling sampling; ///< greedy unless said otherwise
};

} // namespace troupe::embed
