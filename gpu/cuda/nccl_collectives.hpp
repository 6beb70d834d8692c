#pragma once

#include <memory>

#include "gpu/backend.hpp"
#include "gpu/cuda/device.hpp"

namespace troupe::gpu::cuda {

/// A communicator of `size` GPUs, one a process; everybody calls it. It is made on the side, which `settle` waits for
/// and gives up at its deadline. Calls only enqueue; one that has to be prepared first, with a peer that is gone, is
/// ended by the watchdog like any step that completes nothing. Its end is the process's: taking a communicator down
/// waits for peers that may be gone (DESIGN decision 8). Contract: B2, B10, B20, B26, C7. Errors: executor_failed with
/// NCCL's words; those of the exchange.
protocols::result<std::unique_ptr<device_collectives>> join_nccl(const device& on, const group_member& seat);

} // namespace troupe::gpu::cuda
