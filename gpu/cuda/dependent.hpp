#pragma once

#include <cuda_runtime.h>

#include <utility>

/// Kernels that begin while the one before them on their stream still runs: such a kernel may read what has long been
/// there (weights, the pool's older keys) at once, so that the memory is never idle between two kernels, and waits
/// before it touches what the kernels before it read or write. Of every one of them a block must wait, whatever there
/// is to do: what comes after it takes its end for the end of all before it. Included by .cu files alone. Source: CUDA
/// programming guide, programmatic dependent launch.
namespace troupe::gpu::cuda {

/// Until all kernels before this one have ended and what they wrote can be read.
__device__ __forceinline__ void await_kernels_before() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}
/// The kernel after this one may begin as soon as all blocks of this one have said so and there is room for it.
__device__ __forceinline__ void let_next_kernel_begin() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/// Launches a kernel that awaits the kernels before itself.
template <class... Parameters, class... Arguments>
cudaError_t launch_early(cudaStream_t on, dim3 blocks, dim3 threads, std::size_t shared_bytes,
                         void (*kernel)(Parameters...), Arguments&&... arguments) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t how{};
  how.gridDim = blocks;
  how.blockDim = threads;
  how.dynamicSmemBytes = shared_bytes;
  how.stream = on;
  how.attrs = &early;
  how.numAttrs = 1;
  return cudaLaunchKernelEx(&how, kernel, std::forward<Arguments>(arguments)...);
}
/// The same, in clusters of blocks, of a kernel that is to stand on multiprocessors beside its like: they all want the
/// most shared memory, since a multiprocessor must be empty to divide its memory in another way.
template <class... Parameters, class... Arguments>
cudaError_t launch_beside(cudaStream_t on, dim3 cluster, dim3 blocks, dim3 threads, std::size_t shared_bytes,
                          void (*kernel)(Parameters...), Arguments&&... arguments) {
  cudaLaunchAttribute attributes[3]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
  attributes[1].val.sharedMemCarveout = cudaSharedmemCarveoutMaxShared;
  attributes[2].id = cudaLaunchAttributeClusterDimension;
  attributes[2].val.clusterDim = {cluster.x, cluster.y, cluster.z};
  cudaLaunchConfig_t how{};
  how.gridDim = blocks;
  how.blockDim = threads;
  how.dynamicSmemBytes = shared_bytes;
  how.stream = on;
  how.attrs = attributes;
  how.numAttrs = cluster.x * cluster.y * cluster.z > 1 ? 3 : 2;
  return cudaLaunchKernelEx(&how, kernel, std::forward<Arguments>(arguments)...);
}

} // namespace troupe::gpu::cuda
