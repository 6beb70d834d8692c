#pragma once

#include <cuda_runtime_api.h>

#include "gpu/stream.hpp"

namespace troupe::gpu::cuda {

/// What a stream's event and a transfer's both are here. A CUDA event may end while something still waits for it.
class cuda_event final : public stream_event {
public:
  cuda_event() { error_ = cudaEventCreateWithFlags(&handle_, cudaEventDisableTiming); }
  ~cuda_event() override {
    if (handle_)
      cudaEventDestroy(handle_);
  }

  cudaEvent_t handle() const noexcept { return handle_; }
  /// Of its making.
  cudaError_t error() const noexcept { return error_; }

  /// Whether the stream has come to it: cudaErrorNotReady is an answer here, and not an error for the next call to
  /// find.
  cudaError_t state() const noexcept {
    const cudaError_t now = cudaEventQuery(handle_);
    if (now == cudaErrorNotReady)
      cudaGetLastError();
    return now;
  }

private:
  cudaEvent_t handle_ = nullptr;
  cudaError_t error_ = cudaSuccess;
};

} // namespace troupe::gpu::cuda
