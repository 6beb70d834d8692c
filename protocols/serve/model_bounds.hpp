#pragma once

#include <cstdint>
#include <vector>

#include "protocols/ids.hpp"

namespace troupe::protocols {

/// What the machines of `serve` must know of the model.
struct model_bounds {
  std::uint32_t context_max = 0;        ///< tokens of prompt and answer
  std::uint32_t picture_tokens_max = 0; ///< of the largest picture
  std::uint32_t row_elements = 0;       ///< of an embedding row
  std::uint32_t vocabulary = 0;
  std::vector<token_id> end_tokens;
};

} // namespace troupe::protocols
