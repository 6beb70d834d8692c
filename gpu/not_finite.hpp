#pragma once

#include <cstdint>

namespace troupe::gpu {

/// What is chosen where a logit is infinite or no number: nothing, on every device and every rank alike (K8).
inline constexpr std::int32_t not_finite = -2;

} // namespace troupe::gpu
