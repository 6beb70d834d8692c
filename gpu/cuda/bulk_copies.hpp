#pragma once

#include <cuda.h>

#include "gpu/cuda/group_products.hpp"

/// Tiles that the bulk copy engine (TMA) brings to shared memory, and the barriers that say when they have come and
/// when they are used up. Included by .cu files alone. Source: CUDA programming guide, asynchronous copies; PTX ISA,
/// mbarrier and cp.async.bulk.tensor.
namespace troupe::gpu::cuda {

/// Turns over when `arrivals` have arrived and all bytes that were announced have come. Waits name the parity of the
/// turn that they wait for, 0 for the first; that of the turn before the first has long come.
class bulk_barrier {
public:
  __device__ __forceinline__ void begin(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(arrivals) : "memory");
  }
  __device__ __forceinline__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address()) : "memory");
  }
  __device__ __forceinline__ void arrive_announcing(int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address()), "r"(bytes) : "memory");
  }
  __device__ __forceinline__ void await(int parity) {
    asm volatile(
        "{\n.reg .pred turned;\n"
        "again:\nmbarrier.try_wait.parity.shared::cta.b64 turned, [%0], %1;\n@!turned bra again;\n}" ::"r"(address()),
        "r"(parity)
        : "memory");
  }
  __device__ __forceinline__ unsigned address() const { return shared_address(&state_); }

private:
  std::uint64_t state_;
};

/// Barriers that have begun are seen by the copy engine after this.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/// What this thread wrote to shared memory is seen by products and copies that begin after a barrier of threads.
__device__ __forceinline__ void publish_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Sends for the tile that begins at (element, row, head, block) of what `from` describes; elements beyond it are
/// zeros, and count as bytes that come.
__device__ __forceinline__ void copy_tile(void* to, const CUtensorMap& from, int element, int row, int head, int block,
                                          const bulk_barrier& told) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
               "[%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(to)),
               "l"(&from), "r"(element), "r"(row), "r"(head), "r"(block), "r"(told.address())
               : "memory");
}

/// Rows of heads as a kernel's parameter names them to the copy engine: strides in elements.
struct tiled_rows {
  const void* data = nullptr;
  std::int64_t width = 0; ///< elements of a row, which are adjacent
  std::int64_t rows = 0, row_stride = 0;
  std::int64_t heads = 0, head_stride = 0;
  std::int64_t blocks = 1, block_stride = 0;
};
/// Tiles of 64 elements and `tile_rows` rows of bf16, swizzled. Addresses and strides are multiples of 16 bytes.
/// Errors: cudaErrorInvalidValue; what asking the driver reports.
cudaError_t describe_tiles(const tiled_rows& of, int tile_rows, CUtensorMap& to);

} // namespace troupe::gpu::cuda
