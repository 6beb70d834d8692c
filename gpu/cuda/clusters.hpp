#pragma once

#include <cuda_runtime.h>

/// Blocks of a cluster: they run at the same time and write to each other's shared memory. Included by .cu files alone.
/// Source: PTX manual, barrier.cluster, mapa and st.shared::cluster.
namespace troupe::gpu::cuda {

/// All threads of the cluster arrive, and go on; what they wrote to shared memory is there for those that await them.
__device__ __forceinline__ void arrive_at_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
/// Until all have arrived.
__device__ __forceinline__ void await_cluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// Writes to where `here` stands in the shared memory of a block of the cluster, once that block has begun.
__device__ __forceinline__ void store_in_block(float4* here, int number, const float4& what) {
  unsigned there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;"
      : "=r"(there)
      : "r"(static_cast<unsigned>(__cvta_generic_to_shared(here))), "r"(number));
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(there), "f"(what.x), "f"(what.y), "f"(what.z),
               "f"(what.w)
               : "memory");
}

} // namespace troupe::gpu::cuda
