#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "protocols/fault.hpp"
#include "protocols/time.hpp"

namespace troupe::gpu::cuda {

/// "cudaMalloc: cudaErrorMemoryAllocation, out of memory".
std::string words_of(cudaError_t error, const char* call);

/// One of the machine's GPUs, as the plug-in needs it.
struct device {
  int number = 0;
  int multiprocessors = 0;

  /// Makes it the calling thread's, which every call that names no stream of its own depends on.
  void use() const noexcept;
};

/// Until everything on `queue` has happened. Errors: timeout; executor_failed, in `call`'s name.
protocols::result<void> await_queue(const device& on, cudaStream_t queue, const char* call,
                                    protocols::time_point deadline);

/// No driver counts as none.
unsigned count_devices();

/// Errors: config_invalid, with what is there: no driver, no device, no such number, another compute capability.
protocols::result<device> open_device(unsigned number);

} // namespace troupe::gpu::cuda
