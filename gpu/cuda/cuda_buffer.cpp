#include "gpu/cuda/cuda_buffer.hpp"

#include <cstring>

namespace troupe::gpu::cuda {

using protocols::fail;
using protocols::fault;

protocols::result<std::unique_ptr<cuda_buffer>> cuda_buffer::make(const device& of, std::size_t bytes) {
  of.use();
  void* data = nullptr;
  const cudaError_t error = bytes == 0 ? cudaSuccess : cudaMalloc(&data, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError(); // it is answered here, and is not to be found by the next call
    std::size_t unused = 0;
    std::size_t total = 0;
    cudaMemGetInfo(&unused, &total);
    return fail(fault::no_memory, std::to_string(bytes) + " bytes on cuda:" + std::to_string(of.number) +
                                      ", which has " + std::to_string(unused) + " free of " + std::to_string(total));
  }
  if (error != cudaSuccess)
    return fail(fault::executor_failed, words_of(error, "cudaMalloc"));
  return std::unique_ptr<cuda_buffer>{new cuda_buffer{of, data, bytes}};
}

cuda_buffer::~cuda_buffer() {
  device_.use();
  cudaFree(data_);
}

protocols::result<std::unique_ptr<buffer>> shared_buffer::make(const device& of, std::size_t bytes) {
  of.use();
  void* data = nullptr;
  const cudaError_t error = bytes == 0 ? cudaSuccess : cudaHostAlloc(&data, bytes, cudaHostAllocMapped);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return fail(error == cudaErrorMemoryAllocation ? fault::no_memory : fault::executor_failed,
                std::to_string(bytes) + " bytes of pinned memory: " + words_of(error, "cudaHostAlloc"));
  }
  if (bytes > 0)
    std::memset(data, 0, bytes);
  return std::unique_ptr<buffer>{new shared_buffer{of, data, bytes}};
}

shared_buffer::~shared_buffer() {
  device_.use();
  cudaFreeHost(data_);
}

} // namespace troupe::gpu::cuda
