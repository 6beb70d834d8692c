#include <cmath>

#include "gpu/cuda/context_splits.hpp"

// One new token a sequence: every key and value of its context is read once, which is all that this takes. Blocks of
// threads split the context so that few sequences fill the device too; what the splits find is joined afterwards.

namespace troupe::gpu::cuda {

namespace {

constexpr int warps = split_warps;
constexpr int threads = 32 * warps;
constexpr int blocks_per_multiprocessor = 4; // what the registers of these kernels let run at a time
constexpr int splits_max = 128;

/// A softmax-weighted sum that goes on: `top` is the largest score so far, in powers of two.
template <int N, int G>
struct running {
  float top[G];
  float total[G];
  float sum[G][N];
};

/// N elements an access, G query heads at once, Lanes lanes a key: 32 / Lanes keys are read by a warp's access.
template <int N, int G, int Lanes, class T>
__global__ void __launch_bounds__(threads)
    attend(rows_of<const T> q, int heads, int group, int width, pool_view<const T> pool, page_tables where, float scale,
           partial_view partial, rows_of<T> out) {
  constexpr int keys_at_once = 32 / Lanes;
  constexpr int unrolled = keys_at_once >= 8 ? 2 : 4;
  const int sequence = blockIdx.x;
  const int chunks = (group + G - 1) / G;
  const int kv_head = blockIdx.y / chunks;
  const int first_in_group = blockIdx.y % chunks * G;
  const int token = where.first[sequence];
  if (where.first[sequence + 1] - token != 1)
    return;
  const page_range range = pages_of(where, sequence, blockIdx.z, partial.splits, pool.block_shift);
  if (range.first == range.last)
    return;

  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int of_key = lane / Lanes;
  const int column = lane % Lanes * N;
  const bool within = column < width;
  const int heads_here = min(G, group - first_in_group);
  const int first_head = kv_head * group + first_in_group;

  float query[G][N] = {};
  running<N, G> state;
#pragma unroll
  for (int g = 0; g < G; ++g) {
    if (within && g < heads_here)
      load<N>(q[token * heads + first_head + g] + column, query[g]);
    state.top[g] = lowest;
    state.total[g] = 0.0F;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      query[g][i] *= scale * log2_e;
      state.sum[g][i] = 0.0F;
    }
  }

  const std::int32_t* const blocks = where.blocks + sequence * where.blocks_stride;
  for (int page = range.first + warp; page < range.last; page += warps) {
    const T* const keys = pool.keys(blocks[page], kv_head) + column;
    const int valid = min(pool.block_tokens(), range.keys - (page << pool.block_shift));
    for (int first = 0; first < valid; first += keys_at_once * unrolled) {
      float k[unrolled][N] = {};
      float v[unrolled][N] = {};
#pragma unroll
      for (int u = 0; u < unrolled; ++u) {
        const int key = first + u * keys_at_once + of_key;
        if (within && key < valid) {
          load<N>(keys + key * width, k[u]);
          load<N>(keys + pool.values + key * width, v[u]);
        }
      }
#pragma unroll
      for (int g = 0; g < G; ++g) {
        float score[unrolled];
        float top = state.top[g];
#pragma unroll
        for (int u = 0; u < unrolled; ++u) {
          score[u] = 0.0F;
#pragma unroll
          for (int i = 0; i < N; ++i)
            score[u] += query[g][i] * k[u][i];
          score[u] = sum_lanes<Lanes>(score[u]);
          if (first + u * keys_at_once + of_key >= valid)
            score[u] = -INFINITY;
          top = fmaxf(top, score[u]);
        }
        const float shrink = power_of_two(state.top[g] - top);
        state.top[g] = top;
        state.total[g] *= shrink;
#pragma unroll
        for (int i = 0; i < N; ++i)
          state.sum[g][i] *= shrink;
#pragma unroll
        for (int u = 0; u < unrolled; ++u) {
          const float weight = power_of_two(score[u] - top);
          state.total[g] += weight;
#pragma unroll
          for (int i = 0; i < N; ++i)
            state.sum[g][i] += weight * v[u][i];
        }
      }
    }
  }

  // The lanes of other keys first, then the warps.
  __shared__ float found[warps][G][Lanes * N + 2];
#pragma unroll
  for (int g = 0; g < G; ++g) {
    float top = state.top[g];
#pragma unroll
    for (int step = Lanes; step < 32; step *= 2)
      top = fmaxf(top, __shfl_xor_sync(0xffff'ffffU, top, step));
    const float shrink = power_of_two(state.top[g] - top);
    float total = state.total[g] * shrink;
#pragma unroll
    for (int step = Lanes; step < 32; step *= 2)
      total += __shfl_xor_sync(0xffff'ffffU, total, step);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      float sum = state.sum[g][i] * shrink;
#pragma unroll
      for (int step = Lanes; step < 32; step *= 2)
        sum += __shfl_xor_sync(0xffff'ffffU, sum, step);
      if (of_key == 0)
        found[warp][g][2 + column + i] = sum;
    }
    if (lane == 0) {
      found[warp][g][0] = top;
      found[warp][g][1] = total;
    }
  }
  __syncthreads();
  conclude(found, heads_here, width, partial, sequence, first_head, out, token * heads + first_head);
}

/// A block a sequence and head, a thread an element.
template <class T>
__global__ void __launch_bounds__(threads)
    join(page_tables where, int block_shift, partial_view partial, rows_of<T> out) {
  const int sequence = blockIdx.x;
  const int head = blockIdx.y;
  const int token = where.first[sequence];
  if (where.first[sequence + 1] - token != 1)
    return;
  const page_range range = pages_of(where, sequence, 0, partial.splits, block_shift);
  if (range.keys == 0)
    return;
  const int pages = (range.keys - 1 >> block_shift) + 1;
  const int found = (pages + range.last - 1) / range.last; // the splits behind have no pages

  __shared__ float share[splits_max];
  const int lane = threadIdx.x % 32;
  float top = lowest;
  for (int split = lane; split < found; split += 32)
    top = fmaxf(top, partial.at(sequence, head, split)[0]);
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    top = fmaxf(top, __shfl_xor_sync(0xffff'ffffU, top, step));
  float total = 0.0F;
  for (int split = lane; split < found; split += 32) {
    const float* const from = partial.at(sequence, head, split);
    const float each = power_of_two(from[0] - top);
    total += each * from[1];
    if (threadIdx.x < 32)
      share[split] = each;
  }
  total = sum_lanes(total);
  __syncthreads();
  if (threadIdx.x >= partial.width)
    return;
  float sum = 0.0F;
#pragma unroll 8
  for (int split = 0; split < found; ++split)
    sum += share[split] * partial.at(sequence, head, split)[2 + threadIdx.x];
  out[token * partial.heads + head][threadIdx.x] = static_cast<T>(sum / total);
}

/// Calls `body` with G, the smallest that holds the group in the fewest blocks.
template <class Body>
cudaError_t with_group(int group, const Body& body) {
  if (group == 1)
    return body(std::integral_constant<int, 1>{});
  if (group == 2)
    return body(std::integral_constant<int, 2>{});
  if (group <= 4)
    return body(std::integral_constant<int, 4>{});
  return body(std::integral_constant<int, group_most>{});
}

/// Calls `body` with the lanes that a key takes.
template <class Body>
cudaError_t with_lanes(int packs, const Body& body) {
  if (packs <= 4)
    return body(std::integral_constant<int, 4>{});
  if (packs <= 8)
    return body(std::integral_constant<int, 8>{});
  if (packs <= 16)
    return body(std::integral_constant<int, 16>{});
  return body(std::integral_constant<int, 32>{});
}

int chunks_of(const tensor_view& q, const tensor_view& pool) {
  return ceil_div(q.shape(1) / pool.shape(1), group_most);
}

} // namespace

split_plan plan_splits(const tensor_view& q, const tensor_view& pool, const page_tables& where, int multiprocessors) {
  const std::int64_t blocks = where.sequences * pool.shape(1) * chunks_of(q, pool);
  if (blocks == 0)
    return {};
  // The fewest splits that leave little of the device idle while the last blocks run.
  const int resident = multiprocessors * blocks_per_multiprocessor;
  const int useful = std::clamp(ceil_div(where.blocks_most, warps), 1, splits_max); // a page for each warp
  const auto busy = [&](int splits) {
    const double waves = static_cast<double>(blocks * splits) / resident;
    return waves / std::ceil(waves);
  };
  split_plan plan;
  for (int splits = 2; splits <= useful && busy(plan.splits) < 0.9; ++splits)
    if (busy(splits) > busy(plan.splits))
      plan.splits = splits;
  if (plan.splits > 1)
    plan.scratch_bytes =
        static_cast<std::size_t>(where.sequences * q.shape(1) * plan.splits * (q.shape(2) + 2)) * sizeof(float);
  return plan;
}

cudaError_t attend_split(cudaStream_t on, const tensor_view& q, const tensor_view& pool, const page_tables& where,
                         float scale, const split_plan& plan, void* scratch, const tensor_view& out) {
  if (where.sequences == 0)
    return cudaSuccess;
  const int heads = static_cast<int>(q.shape(1));
  const int width = width_of(q);
  const int group = heads / static_cast<int>(pool.shape(1));
  const partial_view partial{static_cast<float*>(scratch), plan.splits, heads, width};
  const dim3 grid{static_cast<unsigned>(where.sequences), static_cast<unsigned>(pool.shape(1) * chunks_of(q, pool)),
                  static_cast<unsigned>(plan.splits)};
  return with_type(q.element(), [&](auto kind) {
    using type = typename decltype(kind)::type;
    const auto launch = [&](auto packed, auto grouped, auto lanes) {
      TROUPE_ASSERT("attention", width <= packed() * lanes()); // 32, for heads that are not read 16 bytes at a time
      attend<packed(), grouped(), lanes()><<<grid, threads, 0, on>>>(rows_in<const type>(q), heads, group, width,
                                                                     pool_in<const type>(pool), where, scale, partial,
                                                                     rows_in<type>(out));
      return cudaSuccess;
    };
    if (std::is_same_v<type, bf16> && packs_fit(8, q, pool))
      attend_split_bf16(on, grid, q, pool_in<const bf16>(pool), where, scale, partial, group, out);
    else if (std::is_same_v<type, float> && packs_fit(4, q, pool))
      with_group(group, [&](auto grouped) {
        return with_lanes(width / 4,
                          [&](auto lanes) { return launch(std::integral_constant<int, 4>{}, grouped, lanes); });
      });
    else
      launch(std::integral_constant<int, 1>{}, std::integral_constant<int, group_most>{},
             std::integral_constant<int, 32>{});
    if (plan.splits > 1)
      join<<<dim3{static_cast<unsigned>(where.sequences), static_cast<unsigned>(heads)}, threads, 0, on>>>(
          where, pool_in<const type>(pool).block_shift, partial, rows_in<type>(out));
    return cudaSuccess;
  });
}

} // namespace troupe::gpu::cuda
