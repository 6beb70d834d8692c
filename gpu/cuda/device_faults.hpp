#pragma once

#include "gpu/backend.hpp"
#include "gpu/cuda/device.hpp"

namespace troupe::gpu::cuda {

/// Carries a drill's fault out on `on`. Errors: executor_failed.
protocols::result<void> strike(const device& on, const device_fault& what);

} // namespace troupe::gpu::cuda
