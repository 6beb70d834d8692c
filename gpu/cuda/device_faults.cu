#include "gpu/cuda/device_faults.hpp"

namespace troupe::gpu::cuda {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

/// So many blocks of this size fill a multiprocessor, so that no other kernel of the process gets a place. Small ones,
/// for each takes whatever place a kernel that is at work gives up: one that needs half a multiprocessor at once may
/// wait for ever behind small kernels that follow each other.
constexpr int filling_threads = 64;
constexpr int filling_blocks = 32;

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
