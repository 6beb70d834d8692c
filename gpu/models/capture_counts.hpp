#pragma once

#include <cstdint>

namespace troupe::gpu::models {

/// What of a model's work is launched as captured, and what was run operation by operation although its device gains by
/// capture. Contract: G5.
struct capture_counts {
  std::uint32_t graphs = 0; ///< that are kept
  std::uint32_t eager = 0;  ///< runs without one, warm-up not counted

  bool operator==(const capture_counts&) const = default;
};

} // namespace troupe::gpu::models
