#pragma once

#include <span>
#include <vector>

#include "gpu/stream.hpp"

namespace troupe::gpu::cpu {

/// The thread itself, with the scratch memory that operations on it use; it grows to the largest need and stays.
class cpu_stream final : public stream {
public:
  protocols::result<void> synchronize() override { return {}; }

  std::span<float> scratch(std::size_t floats) {
    if (scratch_.size() < floats)
      scratch_.resize(floats);
    return std::span{scratch_}.first(floats);
  }

private:
  std::vector<float> scratch_;
};

} // namespace troupe::gpu::cpu
