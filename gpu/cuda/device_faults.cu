#include "gpu/cuda/device_faults.hpp"

namespace troupe::gpu::cuda {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

/// Two blocks of this size fill a multiprocessor, so that no other kernel of the process gets a place.
constexpr int filling_threads = 1024;
constexpr int filling_blocks = 2;

__device__ unsigned long long now_ns() {
  unsigned long long now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

/// Does not end before `longest_ns`: the hard cap of a drill that nobody ends.
__global__ void __launch_bounds__(filling_threads, filling_blocks) spin(unsigned long long longest_ns) {
  const auto began = now_ns();
  while (now_ns() - began < longest_ns)
    __nanosleep(1000);
}

__global__ void trap() {
  __trap();
}

} // namespace

result<void> strike(const device& on, const device_fault& what) {
  on.use();
  cudaStream_t queue = nullptr; // of the drill alone; it ends with the process
  auto error = cudaStreamCreateWithFlags(&queue, cudaStreamNonBlocking);
  if (error == cudaSuccess) {
    if (what.hangs) {
      const auto longest = std::chrono::duration_cast<std::chrono::nanoseconds>(what.longest);
      spin<<<filling_blocks * on.multiprocessors, filling_threads, 0, queue>>>(
          static_cast<unsigned long long>(longest.count()));
    } else {
      trap<<<1, 1, 0, queue>>>();
    }
    error = cudaGetLastError();
  }
  if (error != cudaSuccess)
    return fail(fault::executor_failed, words_of(error, "a drill's kernel"));
  return {};
}

} // namespace troupe::gpu::cuda
