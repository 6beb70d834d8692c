#pragma once

#include "gpu/cuda/pack.hpp"

/// The tensor cores' instructions on bf16. Of a 16 x 8 matrix of sums a lane has rows lane / 4 and lane / 4 + 8 and
/// columns lane % 4 * 2 and the next; of operands, pairs of neighbours in the same places. Included by .cu files alone.
namespace troupe::gpu::cuda {

/// sum [16, 8] += a [16, 16] . b [16, 8]
__device__ __forceinline__ void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b_low, unsigned b_high) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}
__device__ __forceinline__ unsigned join_pair(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&both);
}

/// An 8 x 8 matrix, of which each lane has two neighbours of a row, and then two of a column.
__device__ __forceinline__ unsigned transpose(unsigned of) {
  unsigned out;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(of));
  return out;
}

} // namespace troupe::gpu::cuda
