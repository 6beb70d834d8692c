#pragma once

#include <cstdint>
#include <span>

#include "protocols/ids.hpp"

namespace troupe::protocols {

/// By this the prompt that prefill has computed is held against the one that the front asked for: XXH3-64 of the ids as
/// they stand on the wire. Never 0, which says that nothing was stated.
/// Contract: F6.
std::uint64_t prompt_digest(std::span<const token_id> prompt) noexcept;

} // namespace troupe::protocols
