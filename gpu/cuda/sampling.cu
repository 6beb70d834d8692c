#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/kernels.hpp"
#include "gpu/cuda/pack.hpp"
#include "gpu/cuda/token_weights.hpp"
#include "gpu/not_finite.hpp"
#include "gpu/uniform_draw.hpp"

// A choice for each row of logits, as gpu::choose makes it, in three kernels: blocks find the likeliest token of their
// part of the row; where a row is sampled, they add up the weights by size; then a block a row finds the token in which
// the draw falls among those of one size.

namespace troupe::gpu::cuda {

namespace {

constexpr int id_bits = 20;

constexpr int part_threads = 256;
constexpr int part_tokens = part_threads * 16;
constexpr int threads = 1024;
constexpr int listed_most = 2048; ///< tokens of one size that are sorted at once

struct sampled_rows {
  const float* logits = nullptr;
  std::int64_t stride = 0;
  int vocabulary = 0;
  int parts = 0;
  const float* temperature = nullptr;
  const float* top_p = nullptr;
  const std::int32_t* seed = nullptr;
  std::int64_t seed_stride = 0;
  const std::int32_t* answered = nullptr;
  u64* likeliest = nullptr; ///< [rows, parts]
  u64* by_size = nullptr;   ///< [rows, sizes]
  std::int32_t* chosen = nullptr;
};

/// Larger for the likelier token, and of equals for the lower id; above all others for what is not finite, so that the
/// search for the likeliest finds it too.
__device__ __forceinline__ u64 rank_of(float logit, int id) {
  const unsigned bits = __float_as_uint(logit + 0.0F); // -0 is 0
  const unsigned ordered = isfinite(logit) ? bits ^ (bits >> 31 ? 0xffff'ffffU : 0x8000'0000U) : 0xffff'ffffU;
  return u64{ordered} << 32 | (0xffff'ffffU - static_cast<unsigned>(id));
}
__device__ __forceinline__ int id_of(u64 rank) {
  return static_cast<int>(0xffff'ffffU - static_cast<unsigned>(rank));
}

/// Over the lanes of a warp.
__device__ __forceinline__ u64 highest_of_lanes(u64 value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    value = max(value, __shfl_xor_sync(0xffff'ffffU, value, step));
  return value;
}
/// The likeliest token of a row, from its parts; every lane of the warp has it.
__device__ __forceinline__ u64 likeliest_of(const sampled_rows& of, int row) {
  u64 best = 0;
  for (int part = threadIdx.x % 32; part < of.parts; part += 32)
    best = max(best, of.likeliest[row * of.parts + part]);
  return highest_of_lanes(best);
}

__global__ void __launch_bounds__(part_threads) find_likeliest(sampled_rows of) {
  let_next_kernel_begin();
  await_kernels_before();
  const int row = blockIdx.y;
  const float* const logits = of.logits + row * of.stride;
  const int end = min(of.vocabulary, static_cast<int>(blockIdx.x + 1) * part_tokens);
  u64 best = 0;
#pragma unroll 8
  for (int id = blockIdx.x * part_tokens + threadIdx.x; id < end; id += part_threads)
    best = max(best, rank_of(logits[id], id));
  __shared__ u64 of_warp[part_threads / 32];
  best = highest_of_lanes(best);
  if (threadIdx.x % 32 == 0)
    of_warp[threadIdx.x / 32] = best;
  for (int at = blockIdx.x * part_threads + threadIdx.x; at < sizes; at += of.parts * part_threads)
    of.by_size[row * sizes + at] = 0;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (const u64 each : of_warp)
      best = max(best, each);
    of.likeliest[row * of.parts + blockIdx.x] = best;
  }
}

__global__ void __launch_bounds__(part_threads) add_by_size(sampled_rows of) {
  let_next_kernel_begin();
  await_kernels_before();
  const int row = blockIdx.y;
  const float temperature = of.temperature[row];
  if (!(temperature > 0.0F))
    return;
  const float* const logits = of.logits + row * of.stride;
  const float largest = logits[id_of(likeliest_of(of, row))];
  if (!isfinite(largest))
    return;
  const weighing weigh{largest, temperature};
  __shared__ unsigned low[sizes];
  __shared__ unsigned high[sizes];
  for (int at = threadIdx.x; at < sizes; at += part_threads)
    low[at] = high[at] = 0;
  __syncthreads();
  const int end = min(of.vocabulary, static_cast<int>(blockIdx.x + 1) * part_tokens);
  for (int id = blockIdx.x * part_tokens + threadIdx.x; id < end; id += part_threads) {
    const u64 weight = weigh.of(logits[id]);
    if (weight == 0)
      continue;
    const int size = size_of(weight);
    const auto lower = static_cast<unsigned>(weight);
    const unsigned carry = atomicAdd(&low[size], lower) > 0xffff'ffffU - lower ? 1 : 0;
    const unsigned upper = static_cast<unsigned>(weight >> 32) + carry;
    if (upper > 0)
      atomicAdd(&high[size], upper);
  }
  __syncthreads();
  for (int at = threadIdx.x; at < sizes; at += part_threads)
    if (const u64 sum = u64{high[at]} << 32 | low[at]; sum > 0)
      atomicAdd(&of.by_size[row * sizes + at], sum);
}

/// A token, and the weights of all that come before it and its own.
struct located {
  int id = 0;
  u64 through = 0;
};

/// What a block that searches a row shares.
struct search_memory {
  u64 sums[sizes];
  u64 listed[listed_most]; ///< weight below its size's lowest, then the id, reversed
  u64 above;
  int size;
  int count;
  int before[threads / 32];
  u64 of_warp[threads / 32];
  located found;
};

__device__ __forceinline__ u64 sum_of_block(u64 value, u64 (&of_warp)[threads / 32]) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    value += __shfl_xor_sync(0xffff'ffffU, value, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0)
    of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  value = of_warp[threadIdx.x % 32];
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    value += __shfl_xor_sync(0xffff'ffffU, value, step);
  return value;
}

/// The size in which the sum of the weights, from the largest on, reaches `target`, and the sum above it. By one warp.
__device__ void find_size(search_memory& with, u64 target) {
  constexpr int each = (sizes + 31) / 32;
  const int lane = threadIdx.x;
  const int last = sizes - 1 - lane * each; // a lane goes down from here
  u64 own = 0;
  for (int i = 0; i < each && last - i >= 0; ++i)
    own += with.sums[last - i];
  u64 through = own;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const u64 other = __shfl_up_sync(0xffff'ffffU, through, step);
    if (lane >= step)
      through += other;
  }
  u64 above = through - own;
  if (above >= target || through < target)
    return;
  for (int size = last;; --size) {
    if (above + with.sums[size] >= target) {
      with.size = size;
      with.above = above;
      return;
    }
    above += with.sums[size];
  }
}

/// Calls `body(id, weight)` for the tokens whose weight is in [low, high].
template <class Body>
__device__ __forceinline__ void over_weights(const float* logits, int first, int last, int step, const weighing& weigh,
                                             u64 low, u64 high, Body body) {
  // Most tokens are told by their logit alone.
  const double slack = 1e-5 * (1.0 + fabs(weigh.largest) + weigh.temperature);
  const auto from = static_cast<float>(weigh.logit_of(low) - slack);
  const auto to = static_cast<float>(weigh.logit_of(high + 1) + slack);
  for (int id = first; id < last; id += step) {
    const float logit = logits[id];
    if (!(logit >= from && logit <= to))
      continue;
    const u64 weight = weigh.of(logit);
    if (weight >= low && weight <= high)
      body(id, weight);
  }
}

/// Of equal weights, the one with which the sum reaches `target`: they come in the order of their ids.
__device__ void find_among_equals(search_memory& with, const float* logits, int vocabulary, const weighing& weigh,
                                  u64 weight, u64 target) {
  const int each = (vocabulary + threads - 1) / threads;
  const int first = min(vocabulary, static_cast<int>(threadIdx.x) * each);
  const int last = min(vocabulary, first + each);
  const auto wanted = static_cast<int>((target - with.above + weight - 1) / weight); // counted from 1
  int own = 0;
  over_weights(logits, first, last, 1, weigh, weight, weight, [&](int, u64) { ++own; });
  const int lane = threadIdx.x % 32;
  int through = own;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xffff'ffffU, through, step);
    if (lane >= step)
      through += other;
  }
  if (lane == 31)
    with.before[threadIdx.x / 32] = through;
  __syncthreads();
  for (int warp = 0; warp < static_cast<int>(threadIdx.x) / 32; ++warp)
    through += with.before[warp];
  int number = through - own;
  if (number < wanted && through >= wanted)
    over_weights(logits, first, last, 1, weigh, weight, weight, [&](int id, u64) {
      if (++number == wanted)
        with.found = {id, with.above + static_cast<u64>(wanted) * weight};
    });
  __syncthreads();
}

/// Sorts `count` (a power of two) of with.listed, the largest first.
__device__ void sort_listed(search_memory& with, int count) {
  for (int run = 2; run <= count; run *= 2)
    for (int apart = run / 2; apart > 0; apart /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < count; i += threads) {
        const int other = i ^ apart;
        if (other <= i)
          continue;
        const bool down = (i & run) == 0;
        const u64 a = with.listed[i];
        const u64 b = with.listed[other];
        if ((a < b) == down) {
          with.listed[i] = b;
          with.listed[other] = a;
        }
      }
    }
  __syncthreads();
}

/// The first token, likeliest first, with which the sum of the weights reaches `target`, which is in [1, total].
__device__ located locate(search_memory& with, const float* logits, int vocabulary, const weighing& weigh, u64 target) {
  __syncthreads();
  if (threadIdx.x < 32)
    find_size(with, target);
  __syncthreads();
  u64 low = lowest_of_size(with.size);
  u64 high = with.size + 1 < sizes ? lowest_of_size(with.size + 1) - 1 : u64{1} << weight_bits;
  while (true) { // halves the weights while too many tokens have them: at most weight_bits times
    if (low == high) {
      find_among_equals(with, logits, vocabulary, weigh, low, target);
      return with.found;
    }
    __syncthreads();
    if (threadIdx.x == 0)
      with.count = 0;
    __syncthreads();
    over_weights(logits, threadIdx.x, vocabulary, threads, weigh, low, high, [&](int id, u64 weight) {
      const int at = atomicAdd(&with.count, 1);
      if (at < listed_most)
        with.listed[at] = (weight - low) << id_bits | static_cast<unsigned>((1 << id_bits) - 1 - id);
    });
    __syncthreads();
    if (with.count <= listed_most)
      break;
    const u64 middle = low + (high - low) / 2;
    u64 upper = 0;
    over_weights(logits, threadIdx.x, vocabulary, threads, weigh, middle + 1, high,
                 [&](int, u64 weight) { upper += weight; });
    upper = sum_of_block(upper, with.of_warp);
    if (with.above + upper >= target) {
      low = middle + 1;
    } else {
      high = middle;
      __syncthreads();
      if (threadIdx.x == 0)
        with.above += upper;
      __syncthreads();
    }
  }

  const int count = with.count;
  int padded = 1;
  while (padded < count)
    padded *= 2;
  for (int i = count + threadIdx.x; i < padded; i += threads)
    with.listed[i] = 0;
  sort_listed(with, padded);
  if (threadIdx.x < 32) {
    const int lane = threadIdx.x;
    u64 above = with.above;
    for (int first = 0; first < count; first += 32) {
      const int at = first + lane;
      u64 own = at < count ? low + (with.listed[at] >> id_bits) : 0;
      u64 through = own;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const u64 other = __shfl_up_sync(0xffff'ffffU, through, step);
        if (lane >= step)
          through += other;
      }
      through += above;
      if (own > 0 && through >= target && through - own < target)
        with.found = {(1 << id_bits) - 1 - static_cast<int>(with.listed[at] & ((1 << id_bits) - 1)), through};
      above = __shfl_sync(0xffff'ffffU, through, 31);
    }
  }
  __syncthreads();
  return with.found;
}

__global__ void __launch_bounds__(threads) choose_token(sampled_rows of) {
  let_next_kernel_begin();
  await_kernels_before();
  extern __shared__ u64 raw[];
  auto& with = *reinterpret_cast<search_memory*>(raw);
  const int row = blockIdx.x;
  const float* const logits = of.logits + row * of.stride;
  const int best = id_of(likeliest_of(of, row));
  const float temperature = of.temperature[row];
  const float largest = logits[best];
  if (!(temperature > 0.0F) || !isfinite(largest)) {
    if (threadIdx.x == 0)
      of.chosen[row] = isfinite(largest) ? best : not_finite;
    return;
  }
  const weighing weigh{largest, temperature};
  u64 own = 0;
  for (int at = threadIdx.x; at < sizes; at += threads)
    own += with.sums[at] = of.by_size[row * sizes + at];
  const u64 total = sum_of_block(own, with.of_warp);

  const double top_p = fmin(fmax(static_cast<double>(of.top_p[row]), 0.0), 1.0);
  u64 kept = total;
  if (top_p < 1.0) {
    const auto enough = static_cast<u64>(ceil(top_p * static_cast<double>(total)));
    kept = locate(with, logits, of.vocabulary, weigh, min(max(enough, u64{1}), total)).through;
  }
  const u64 seed = static_cast<unsigned>(of.seed[row]) | u64{static_cast<unsigned>(of.seed[of.seed_stride + row])}
                                                             << 32;
  const double draw = uniform_draw(seed, static_cast<u64>(of.answered[row]));
  const u64 target = min(static_cast<u64>(draw * static_cast<double>(kept)), kept - 1) + 1;
  const located found = locate(with, logits, of.vocabulary, weigh, target);
  if (threadIdx.x == 0)
    of.chosen[row] = found.id;
}

int parts_of(const tensor_view& logits) {
  return ceil_div(logits.shape(1), part_tokens);
}

} // namespace

std::size_t sampling_scratch_bytes(const tensor_view& logits) {
  return static_cast<std::size_t>(logits.shape(0)) * static_cast<std::size_t>(parts_of(logits) + sizes) * sizeof(u64);
}

cudaError_t sample_rows(cudaStream_t on, const tensor_view& logits, const batch_rows& rows, const tensor_view& chosen,
                        void* scratch) {
  TROUPE_ASSERT("sample", logits.shape(1) <= std::int64_t{1} << id_bits);
  const auto count = static_cast<unsigned>(logits.shape(0));
  sampled_rows of{.logits = logits.f32(),
                  .stride = logits.stride(0),
                  .vocabulary = width_of(logits),
                  .parts = parts_of(logits),
                  .temperature = rows.temperature.f32(),
                  .top_p = rows.top_p.f32(),
                  .seed = rows.seed.i32(),
                  .seed_stride = rows.seed.stride(0),
                  .answered = rows.answered.i32(),
                  .likeliest = static_cast<u64*>(scratch),
                  .chosen = chosen.i32()};
  of.by_size = of.likeliest + count * static_cast<unsigned>(of.parts);
  const dim3 parts{static_cast<unsigned>(of.parts), count};
  if (const cudaError_t error = launch_early(on, parts, part_threads, 0, find_likeliest, of); error != cudaSuccess)
    return error;
  if (const cudaError_t error = launch_early(on, parts, part_threads, 0, add_by_size, of); error != cudaSuccess)
    return error;
  constexpr int bytes = sizeof(search_memory);
  if (const cudaError_t error = cudaFuncSetAttribute(choose_token, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
      error != cudaSuccess)
    return error;
  return launch_early(on, count, threads, bytes, choose_token, of);
}

} // namespace troupe::gpu::cuda
