#pragma once

#include <memory>

#include "fabric/device_memory.hpp"
#include "gpu/cuda/device.hpp"

namespace troupe::gpu::cuda {

/// A GPU's memory between processes of a host, by CUDA IPC. A region is a cudaMalloc of its own: a handle names the
/// whole allocation. Where two GPUs cannot reach each other's memory the driver refuses to open, by name.
/// Contract: I23, I25, I26. Errors: config_invalid, see open_device.
protocols::result<std::shared_ptr<fabric::device_memory>> make_ipc_memory(unsigned device_number);

} // namespace troupe::gpu::cuda
