#pragma once

#include <memory>

#include "fabric/transfers/device_memory.hpp"
#include "gpu/cuda/device.hpp"

namespace troupe::gpu::cuda {

/// A GPU's memory between processes of a host, by CUDA IPC. A region is a cudaMalloc of its own: a handle names the
/// whole allocation. Where two GPUs cannot reach each other's memory, or are not to (NCCL_P2P_DISABLE), it is opened on
/// its own GPU, which takes a context there, and copies go by way of the host.
/// Contract: I23, I25, I26. Errors: config_invalid, see open_device.
protocols::result<std::shared_ptr<fabric::device_memory>> make_ipc_memory(unsigned device_number);

} // namespace troupe::gpu::cuda
