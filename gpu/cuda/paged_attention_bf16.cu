#include "gpu/cuda/context_splits.hpp"
#include "gpu/cuda/key_tiles.hpp"

// Decode attention in bf16 on the tensor cores: 16 keys against up to 8 query heads at a time. The plain units would
// take longer to multiply than the memory to read.

namespace troupe::gpu::cuda {

namespace {

constexpr int threads = 32 * split_warps;

/// D: elements of a head, rounded up to 32; what is beyond `width` is zero.
template <int D>
__global__ void __launch_bounds__(threads, 4)
    attend(rows_of<const bf16> q, int heads, int group, int width, pool_view<const bf16> pool, page_tables where,
           float scale, partial_view partial, rows_of<bf16> out) {
  const int sequence = blockIdx.x;
  const int chunks = (group + group_most - 1) / group_most;
  const int kv_head = blockIdx.y / chunks;
  const int first_in_group = blockIdx.y % chunks * group_most;
  const int token = where.first[sequence];
  if (where.first[sequence + 1] - token != 1)
    return;
  const page_range range = pages_of(where, sequence, blockIdx.z, partial.splits, pool.block_shift);
  if (range.first == range.last)
    return;

  const int warp = threadIdx.x / 32;
  const int high = threadIdx.x % 32 / 4; // of a lane: the row of an operand
  const int low = threadIdx.x % 4;       // and its columns
  const int heads_here = min(group_most, group - first_in_group);
  const int first_head = kv_head * group + first_in_group;

  uint4 query[key_tile<D>::key_parts] = {};
  if (high < heads_here)
#pragma unroll
    for (int p = 0; p < key_tile<D>::key_parts; ++p)
      if (p * 32 + low * 8 < width)
        query[p] = *reinterpret_cast<const uint4*>(q[token * heads + first_head + high] + p * 32 + low * 8);
  scale *= log2_e;

  running_sums<D> sums;
  const std::int32_t* const blocks = where.blocks + sequence * where.blocks_stride;
  int page = range.first + warp;
  int block = page < range.last ? blocks[page] : 0;
  while (page < range.last) {
    const bf16* const keys = pool.keys(block, kv_head);
    const int valid = min(pool.block_tokens(), range.keys - (page << pool.block_shift));
    page += split_warps;
    block = page < range.last ? blocks[page] : 0;
    for (int first = 0; first < valid; first += keys_at_once) {
      key_tile<D> tile;
      tile.read(keys + first * width, keys + first * width + pool.values, valid - first, width,
                [](const bf16* from) { return __ldcs(reinterpret_cast<const uint4*>(from)); });
      sums.add(tile, query, valid - first, scale);
    }
  }

  __shared__ __align__(8) typename running_sums<D>::of_heads found[split_warps];
  sums.write(found[warp], heads_here, scale);
  __syncthreads();
  conclude(found, heads_here, width, partial, sequence, first_head, out, token * heads + first_head);
}

} // namespace

cudaError_t attend_split_bf16(cudaStream_t on, dim3 blocks, const tensor_view& q, const pool_view<const bf16>& pool,
                              const page_tables& where, float scale, const partial_view& partial, int group,
                              const tensor_view& out) {
  const auto launch = [&](auto compiled) {
    attend<compiled()><<<blocks, threads, 0, on>>>(rows_in<const bf16>(q), static_cast<int>(q.shape(1)), group,
                                                   width_of(q), pool, where, scale, partial, rows_in<bf16>(out));
    return cudaSuccess;
  };
  const int width = width_of(q);
  if (width <= 32)
    return launch(std::integral_constant<int, 32>{});
  if (width <= 64)
    return launch(std::integral_constant<int, 64>{});
  if (width <= 96)
    return launch(std::integral_constant<int, 96>{});
  return launch(std::integral_constant<int, 128>{});
}

} // namespace troupe::gpu::cuda
