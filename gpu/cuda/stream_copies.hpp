#pragma once

#include <memory>

#include "fabric/transfers/device_memory.hpp"
#include "gpu/cuda/device.hpp"

namespace troupe::gpu::cuda {

/// Copies from `on`'s memory on a stream of their own, so that they neither wait for what is computed nor hold it up.
/// Large pieces are the copy engines' work; many small ones are one kernel's, because an engine takes microseconds for
/// each; where the target is out of reach the driver stages each piece through the host. One end may be pinned memory
/// of the host.
std::unique_ptr<fabric::device_copies> make_copies(const device& on);

} // namespace troupe::gpu::cuda
