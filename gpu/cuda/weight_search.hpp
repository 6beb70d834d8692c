#pragma once

#include "gpu/cuda/sampled_rows.hpp"

/// How a block finds tokens of a row by their weights: the one with which a sum is reached, and the sums of the
/// likeliest. Included by .cu files alone.
namespace troupe::gpu::cuda {

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
  int before[row_threads / 32];
  u64 of_warp[row_threads / 32];
  located found;
};

__device__ __forceinline__ u64 sum_of_block(u64 value, u64 (&of_warp)[row_threads / 32]) {
  value = sum_lanes(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0)
    of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  return sum_lanes(of_warp[threadIdx.x % 32]);
}

/// The size in which the sum of the weights, from the largest on, reaches `target`, and the sum above it. By one warp.
inline __device__ void find_size(search_memory& with, u64 target) {
  constexpr int each = (sizes + 31) / 32;
  const int lane = threadIdx.x;
  const int last = sizes - 1 - lane * each; // a lane goes down from here
  u64 own = 0;
  for (int i = 0; i < each && last - i >= 0; ++i)
    own += with.sums[last - i];
  const u64 through = sum_through_lane(own);
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
template <class Logits, class Body>
__device__ __forceinline__ void over_weights(const Logits& logits, int first, int last, int step, const weighing& weigh,
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

/// What is summed up on the way to a target.
struct by_weight {
  __device__ __forceinline__ u64 operator()(u64 weight) const { return weight; }
};
struct by_count {
  __device__ __forceinline__ u64 operator()(u64) const { return 1; }
};

/// Of equal weights, the one with which the sum reaches `target`: they come in the order of their ids.
template <class Logits, class Measure>
__device__ void find_among_equals(search_memory& with, const Logits& logits, int vocabulary, const weighing& weigh,
                                  u64 weight, u64 target, Measure measure) {
  const int each = (vocabulary + row_threads - 1) / row_threads;
  const int first = min(vocabulary, static_cast<int>(threadIdx.x) * each);
  const int last = min(vocabulary, first + each);
  const auto wanted = static_cast<int>((target - with.above + measure(weight) - 1) / measure(weight)); // counted from 1
  int own = 0;
  over_weights(logits, first, last, 1, weigh, weight, weight, [&](int, u64) { ++own; });
  const int lane = threadIdx.x % 32;
  int through = sum_through_lane(own);
  if (lane == 31)
    with.before[threadIdx.x / 32] = through;
  __syncthreads();
  for (int warp = 0; warp < static_cast<int>(threadIdx.x) / 32; ++warp)
    through += with.before[warp];
  int number = through - own;
  if (number < wanted && through >= wanted)
    over_weights(logits, first, last, 1, weigh, weight, weight, [&](int id, u64) {
      if (++number == wanted)
        with.found = {id, with.above + static_cast<u64>(wanted) * measure(weight)};
    });
  __syncthreads();
}

/// Sorts `count` (a power of two) of with.listed, the largest first.
inline __device__ void sort_listed(search_memory& with, int count) {
  for (int run = 2; run <= count; run *= 2)
    for (int apart = run / 2; apart > 0; apart /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < count; i += row_threads) {
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

/// The first token, likeliest first, with which the sum of the weights reaches `target`, which is in [1, total]; or
/// what `measure` makes of them, of which `with.sums` are then.
template <class Logits, class Measure>
__device__ located locate(search_memory& with, const Logits& logits, int vocabulary, const weighing& weigh, u64 target,
                          Measure measure) {
  __syncthreads();
  if (threadIdx.x < 32)
    find_size(with, target);
  __syncthreads();
  u64 low = lowest_of_size(with.size);
  u64 high = with.size + 1 < sizes ? lowest_of_size(with.size + 1) - 1 : u64{1} << weight_bits;
  while (true) { // halves the weights while too many tokens have them: at most weight_bits times
    if (low == high) {
      find_among_equals(with, logits, vocabulary, weigh, low, target, measure);
      return with.found;
    }
    __syncthreads();
    if (threadIdx.x == 0)
      with.count = 0;
    __syncthreads();
    over_weights(logits, threadIdx.x, vocabulary, row_threads, weigh, low, high, [&](int id, u64 weight) {
      const int at = atomicAdd(&with.count, 1);
      if (at < listed_most)
        with.listed[at] = (weight - low) << id_bits | static_cast<unsigned>((1 << id_bits) - 1 - id);
    });
    __syncthreads();
    if (with.count <= listed_most)
      break;
    const u64 middle = low + (high - low) / 2;
    u64 upper = 0;
    over_weights(logits, threadIdx.x, vocabulary, row_threads, weigh, middle + 1, high,
                 [&](int, u64 weight) { upper += measure(weight); });
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
  for (int i = count + threadIdx.x; i < padded; i += row_threads)
    with.listed[i] = 0;
  sort_listed(with, padded);
  if (threadIdx.x < 32) {
    const int lane = threadIdx.x;
    u64 above = with.above;
    for (int first = 0; first < count; first += 32) {
      const int at = first + lane;
      u64 own = at < count ? measure(low + (with.listed[at] >> id_bits)) : 0;
      const u64 through = above + sum_through_lane(own);
      if (own > 0 && through >= target && through - own < target)
        with.found = {(1 << id_bits) - 1 - static_cast<int>(with.listed[at] & ((1 << id_bits) - 1)), through};
      above = __shfl_sync(0xffff'ffffU, through, 31);
    }
  }
  __syncthreads();
  return with.found;
}

/// The sum of the weights in [low, 2^weight_bits], of equals to `low` those up to `last`.
template <class Logits>
__device__ __noinline__ u64 sum_from(search_memory& with, const Logits& logits, int vocabulary, const weighing& weigh,
                                     u64 low, int last) {
  u64 sum = 0;
  over_weights(logits, threadIdx.x, vocabulary, row_threads, weigh, low, u64{1} << weight_bits,
               [&](int id, u64 weight) {
                 if (weight > low || id <= last)
                   sum += weight;
               });
  return sum_of_block(sum, with.of_warp);
}

/// The sum of the weights of the `top_k` likeliest tokens. `with.sums` are used for it.
template <class Logits>
__device__ __noinline__ u64 sum_of_top(search_memory& with, const Logits& logits, int vocabulary, const weighing& weigh,
                                       u64 total, unsigned top_k) {
  __syncthreads();
  for (int at = threadIdx.x; at < sizes; at += row_threads)
    with.sums[at] = 0;
  __syncthreads();
  u64 own = 0;
  for (int id = threadIdx.x; id < vocabulary; id += row_threads)
    if (const u64 weight = weigh.of(logits[id]); weight > 0) {
      atomicAdd(&with.sums[size_of(weight)], u64{1});
      ++own;
    }
  if (const u64 all = sum_of_block(own, with.of_warp); all <= top_k)
    return total;
  const located last = locate(with, logits, vocabulary, weigh, top_k, by_count{});
  return sum_from(with, logits, vocabulary, weigh, weigh.of(logits[last.id]), last.id);
}

} // namespace troupe::gpu::cuda
