#include "gpu/cuda/context_splits.hpp"
#include "gpu/cuda/tensor_cores.hpp"

// Decode attention in bf16 on the tensor cores: 16 keys against up to 8 query heads at a time. The plain units would
// take longer to multiply than the memory to read. Keys and values go from memory to registers 16 bytes at a time:
// which element of a head stands where in an operand is free as long as both operands agree, so nothing is shuffled.

namespace troupe::gpu::cuda {

namespace {

constexpr int threads = 32 * split_warps;
constexpr int keys_at_once = 16;

__device__ __forceinline__ uint4 load_once(const bf16* from, bool there) {
  return there ? __ldcs(reinterpret_cast<const uint4*>(from)) : uint4{};
}
__device__ __forceinline__ unsigned low_halves(unsigned a, unsigned b) {
  return __byte_perm(a, b, 0x5410);
}
__device__ __forceinline__ unsigned high_halves(unsigned a, unsigned b) {
  return __byte_perm(a, b, 0x7632);
}

/// D: elements of a head, rounded up to 32; what is beyond `width` is zero.
template <int D>
__global__ void __launch_bounds__(threads, 4)
    attend(rows_of<const bf16> q, int heads, int group, int width, pool_view<const bf16> pool, page_tables where,
           float scale, partial_view partial, rows_of<bf16> out) {
  constexpr int key_parts = D / 32;          // 4 lanes read 8 elements each
  constexpr int value_parts = (D + 63) / 64; // 8 lanes do
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

  uint4 query[key_parts] = {};
  if (high < heads_here)
#pragma unroll
    for (int p = 0; p < key_parts; ++p)
      if (p * 32 + low * 8 < width)
        query[p] = *reinterpret_cast<const uint4*>(q[token * heads + first_head + high] + p * 32 + low * 8);
  scale *= log2_e;

  // Sums are [element][query]: of a lane, queries 2 low and 2 low + 1.
  float sum[value_parts * 4][4] = {};
  float top[2] = {lowest, lowest};
  float total[2] = {};
  const std::int32_t* const blocks = where.blocks + sequence * where.blocks_stride;
  int page = range.first + warp;
  int block = page < range.last ? blocks[page] : 0;
  while (page < range.last) {
    const bf16* const keys = pool.keys(block, kv_head);
    const int valid = min(pool.block_tokens(), range.keys - (page << pool.block_shift));
    page += split_warps;
    block = page < range.last ? blocks[page] : 0;
    for (int first = 0; first < valid; first += keys_at_once) {
      uint4 key[key_parts][2];
#pragma unroll
      for (int p = 0; p < key_parts; ++p)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int at = first + high + r * 8;
          const int column = p * 32 + low * 8;
          key[p][r] = load_once(keys + at * width + column, at < valid && column < width);
        }
      uint4 value[value_parts][4];
#pragma unroll
      for (int p = 0; p < value_parts; ++p)
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const int at = first + low * 2 + r % 2 + r / 2 * 8;
          const int column = p * 64 + high * 8;
          value[p][r] = load_once(keys + pool.values + at * width + column, at < valid && column < width);
        }

      float score[4] = {}; // keys `high` and `high` + 8
#pragma unroll
      for (int p = 0; p < key_parts; ++p) {
        multiply(score, {key[p][0].x, key[p][1].x, key[p][0].y, key[p][1].y}, query[p].x, query[p].y);
        multiply(score, {key[p][0].z, key[p][1].z, key[p][0].w, key[p][1].w}, query[p].z, query[p].w);
      }
      if (first + high >= valid)
        score[0] = score[1] = -INFINITY;
      if (first + high + 8 >= valid)
        score[2] = score[3] = -INFINITY;
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float highest = fmaxf(top[c], fmaxf(score[c], score[c + 2]));
#pragma unroll
        for (int step = 4; step < 32; step *= 2)
          highest = fmaxf(highest, __shfl_xor_sync(0xffff'ffffU, highest, step));
        const float shrink = power_of_two((top[c] - highest) * scale);
        top[c] = highest;
        score[c] = power_of_two((score[c] - highest) * scale);
        score[c + 2] = power_of_two((score[c + 2] - highest) * scale);
        total[c] = total[c] * shrink + score[c] + score[c + 2];
#pragma unroll
        for (int t = 0; t < value_parts * 4; ++t) {
          sum[t][c] *= shrink;
          sum[t][c + 2] *= shrink;
        }
      }
      const unsigned weight_low = transpose(join_pair(score[0], score[1]));
      const unsigned weight_high = transpose(join_pair(score[2], score[3]));
#pragma unroll
      for (int p = 0; p < value_parts; ++p) {
        const auto add = [&](int tile, unsigned a, unsigned b, unsigned c, unsigned d) {
          multiply(sum[p * 4 + tile], {low_halves(a, b), high_halves(a, b), low_halves(c, d), high_halves(c, d)},
                   weight_low, weight_high);
        };
        add(0, value[p][0].x, value[p][1].x, value[p][2].x, value[p][3].x);
        add(1, value[p][0].y, value[p][1].y, value[p][2].y, value[p][3].y);
        add(2, value[p][0].z, value[p][1].z, value[p][2].z, value[p][3].z);
        add(3, value[p][0].w, value[p][1].w, value[p][2].w, value[p][3].w);
      }
    }
  }

  __shared__ float found[split_warps][group_most][value_parts * 64 + 2];
#pragma unroll
  for (int c = 0; c < 2; ++c) {
#pragma unroll
    for (int step = 4; step < 32; step *= 2)
      total[c] += __shfl_xor_sync(0xffff'ffffU, total[c], step);
    float* const to = found[warp][low * 2 + c];
    if (high == 0) {
      to[0] = top[c] * scale;
      to[1] = total[c];
    }
#pragma unroll
    for (int t = 0; t < value_parts * 4; ++t) {
      const int element = t / 4 * 64 + high * 8 + t % 4 * 2;
      to[2 + element] = sum[t][c];
      to[2 + element + 1] = sum[t][c + 2];
    }
  }
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
