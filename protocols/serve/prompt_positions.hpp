#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/serve/request_messages.hpp"

namespace troupe::protocols {

/// M-RoPE positions of a prompt with pictures (Qwen3-VL: a picture advances by the larger side of its merged grid).
/// Contract: F16.
struct prompt_positions {
  std::vector<std::array<std::int32_t, 3>> positions; ///< [prompt] of (t, h, w)
  std::int32_t delta = 0;                             ///< what decode adds to a token's index
};

/// `merge`: patches of a token, a side.
prompt_positions positions_of(std::span<const token_id> prompt, std::span<const picture_item> pictures,
                              std::uint32_t merge);

} // namespace troupe::protocols
