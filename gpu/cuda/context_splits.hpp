#pragma once

#include "gpu/cuda/pool_view.hpp"

/// What the kernels that split a context share. Included by .cu files alone.
namespace troupe::gpu::cuda {

inline constexpr int split_warps = 4; ///< of a block
inline constexpr int group_most = 8;  ///< query heads that a block does at once; more go to several blocks

/// What one split of a context found for one query head: the largest score, the sum of the weights relative to it, and
/// the weighted sum of values.
struct partial_view {
  float* data = nullptr;
  int splits = 1;
  int heads = 1;
  int width = 0;

  __device__ __forceinline__ float* at(int sequence, int head, int split) const {
    return data + ((static_cast<std::int64_t>(sequence) * heads + head) * splits + split) * (width + 2);
  }
};

/// Pages [first, last) of a sequence that a split reads.
struct page_range {
  int first = 0;
  int last = 0;
  int keys = 0; ///< of the whole sequence
};
__device__ __forceinline__ page_range pages_of(const page_tables& where, int sequence, int split, int splits,
                                               int block_shift) {
  const int keys = where.context[sequence] + 1; // none in a row of nobody
  const int pages = (keys - 1 >> block_shift) + 1;
  const int each = (pages + splits - 1) / splits;
  return {min(split * each, pages), min((split + 1) * each, pages), keys};
}

/// Joins what the warps of a block found for each head, [0] the largest score, [1] the sum of weights, then the sums,
/// and writes it: the answer when the block had the whole context. `row`: of the first head in `out`.
template <int Heads, int Columns, class T>
__device__ __forceinline__ void conclude(const float (&found)[split_warps][Heads][Columns], int heads, int width,
                                         const partial_view& partial, int sequence, int first_head,
                                         const rows_of<T>& out, int row) {
  for (int at = threadIdx.x; at < heads * width; at += 32 * split_warps) {
    const int head = at / width;
    const int i = at % width;
    float top = lowest;
#pragma unroll
    for (int w = 0; w < split_warps; ++w)
      top = fmaxf(top, found[w][head][0]);
    float total = 0.0F;
    float sum = 0.0F;
#pragma unroll
    for (int w = 0; w < split_warps; ++w) {
      const float share = power_of_two(found[w][head][0] - top);
      total += share * found[w][head][1];
      sum += share * found[w][head][2 + i];
    }
    if (partial.splits == 1) {
      out[row + head][i] = static_cast<T>(sum / total);
    } else {
      float* const to = partial.at(sequence, first_head + head, blockIdx.z);
      to[2 + i] = sum;
      if (i == 0) {
        to[0] = top;
        to[1] = total;
      }
    }
  }
}

/// The tensor cores' kernel, for bf16 that can be read 16 bytes at a time (paged_attention_bf16.cu). `blocks`: of
/// threads, along sequences, groups of heads and splits.
cudaError_t attend_split_bf16(cudaStream_t on, dim3 blocks, const tensor_view& q, const pool_view<const bf16>& pool,
                              const page_tables& where, float scale, const partial_view& partial, int group,
                              const tensor_view& out);

} // namespace troupe::gpu::cuda
