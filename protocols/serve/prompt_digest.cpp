#include "protocols/serve/prompt_digest.hpp"

#include <algorithm>

#include <xxhash.h>

namespace troupe::protocols {

std::uint64_t prompt_digest(std::span<const token_id> prompt) noexcept {
  return std::max<std::uint64_t>(1, XXH3_64bits(prompt.data(), prompt.size_bytes()));
}

} // namespace troupe::protocols
