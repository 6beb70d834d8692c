#pragma once

#include <memory>

#include "gpu/backend.hpp"
#include "gpu/cuda/device.hpp"

namespace troupe::gpu::cuda {

/// Errors: executor_failed.
protocols::result<collectives_key> make_nccl_key();

/// A communicator of `size` GPUs, one a process; everybody calls it, with the key that one of them made. Non-blocking:
/// it is given up at the deadline, and so is each call that it has to prepare.
/// Its end is the process's: taking a communicator down waits for peers that may be gone (DESIGN decision 8).
/// Contract: B10, B20. Errors: timeout, executor_failed with NCCL's words.
protocols::result<std::unique_ptr<device_collectives>> join_nccl(const device& on, const collectives_seat& seat,
                                                                 protocols::time_point deadline);

} // namespace troupe::gpu::cuda
