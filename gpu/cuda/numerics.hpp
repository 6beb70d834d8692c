#pragma once

#include <string>

#include "gpu/cuda/device.hpp"

namespace troupe::gpu::cuda {

/// What the numbers of this rank depend on beside weights and code: the GPU's kind, driver and libraries. Ranks of a
/// mesh that differ in it may choose different tokens (B13, G7).
std::string describe_numerics(const device& on);

} // namespace troupe::gpu::cuda
