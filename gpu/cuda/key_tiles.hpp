#pragma once

#include "gpu/cuda/context_splits.hpp"
#include "gpu/cuda/tensor_cores.hpp"

/// Keys and values of a context, 16 at a time against up to 8 query heads on the tensor cores. They go from memory to
/// registers 16 bytes at a time: which element of a head stands where in an operand is free as long as both operands
/// agree, so nothing is shuffled. D: elements of a head, rounded up to 32. Included by .cu files alone.
namespace troupe::gpu::cuda {

inline constexpr int keys_at_once = 16;

__device__ __forceinline__ unsigned low_halves(unsigned a, unsigned b) {
  return __byte_perm(a, b, 0x5410);
}
__device__ __forceinline__ unsigned high_halves(unsigned a, unsigned b) {
  return __byte_perm(a, b, 0x7632);
}

/// 16 keys and their values, as the lanes of a warp hold them: a lane has 8 neighbours of a row at a time.
template <int D>
struct key_tile {
  static constexpr int key_parts = D / 32;          // 4 lanes read 8 elements each
  static constexpr int value_parts = (D + 63) / 64; // 8 lanes do
  uint4 key[key_parts][2];
  uint4 value[value_parts][4];

  /// Places of a lane's parts of a tile, 16 bytes each, in shared memory.
  static constexpr int places = key_parts * 2 + value_parts * 4;

  /// Of rows `width` apart; those from `valid` on are zeros.
  template <class Load>
  __device__ __forceinline__ void read(const bf16* keys, const bf16* values, int valid, int width, Load load) {
    over_parts(keys, values, valid, width,
               [&](uint4& part, const bf16* from, bool is_there) { part = is_there ? load(from) : uint4{}; });
  }
  /// Sends for the same into a warp's room of [places][lanes]; only the lane that sent for a part reads it.
  __device__ __forceinline__ void send_for(uint4* room, const bf16* keys, const bf16* values, int valid, int width) {
    room += threadIdx.x % 32;
    over_parts(keys, values, valid, width, [&](uint4&, const bf16* from, bool is_there) {
      asm volatile(
          "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(room))),
          "l"(is_there ? from : keys), "r"(is_there ? 16 : 0)
          : "memory");
      room += 32;
    });
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  /// Until it has come.
  __device__ __forceinline__ void receive(const uint4* room) {
    asm volatile("cp.async.wait_all;" ::: "memory");
    room += threadIdx.x % 32;
    over_parts(nullptr, nullptr, 0, 0, [&](uint4& part, const bf16*, bool) {
      part = *room;
      room += 32;
    });
  }
  /// Row `at` alone, from shared memory.
  __device__ __forceinline__ void put(const bf16* new_key, const bf16* new_value, int at, int width) {
    const int high = threadIdx.x % 32 / 4;
    const int low = threadIdx.x % 4;
#pragma unroll
    for (int p = 0; p < key_parts; ++p)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        if (high + r * 8 == at && p * 32 + low * 8 < width)
          key[p][r] = *reinterpret_cast<const uint4*>(new_key + p * 32 + low * 8);
#pragma unroll
    for (int p = 0; p < value_parts; ++p)
#pragma unroll
      for (int r = 0; r < 4; ++r)
        if (low * 2 + r % 2 + r / 2 * 8 == at && p * 64 + high * 8 < width)
          value[p][r] = *reinterpret_cast<const uint4*>(new_value + p * 64 + high * 8);
  }

private:
  template <class Body>
  __device__ __forceinline__ void over_parts(const bf16* keys, const bf16* values, int valid, int width, Body body) {
    const int high = threadIdx.x % 32 / 4;
    const int low = threadIdx.x % 4;
#pragma unroll
    for (int p = 0; p < key_parts; ++p)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int at = high + r * 8;
        const int column = p * 32 + low * 8;
        body(key[p][r], keys + at * width + column, at < valid && column < width);
      }
#pragma unroll
    for (int p = 0; p < value_parts; ++p)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int at = low * 2 + r % 2 + r / 2 * 8;
        const int column = p * 64 + high * 8;
        body(value[p][r], values + at * width + column, at < valid && column < width);
      }
  }
};

/// What a warp has found so far, for up to 8 query heads. Sums are [element][query]: of a lane, two queries.
template <int D>
struct running_sums {
  static constexpr int parts = key_tile<D>::value_parts;
  float sum[parts * 4][4] = {};
  float top[2] = {lowest, lowest};
  float total[2] = {};

  __device__ __forceinline__ void add(const key_tile<D>& of, const uint4 (&query)[key_tile<D>::key_parts], int valid,
                                      float scale) {
    const int high = threadIdx.x % 32 / 4;
    float score[4] = {}; // keys `high` and `high` + 8
#pragma unroll
    for (int p = 0; p < key_tile<D>::key_parts; ++p) {
      multiply(score, {of.key[p][0].x, of.key[p][1].x, of.key[p][0].y, of.key[p][1].y}, query[p].x, query[p].y);
      multiply(score, {of.key[p][0].z, of.key[p][1].z, of.key[p][0].w, of.key[p][1].w}, query[p].z, query[p].w);
    }
    if (high >= valid)
      score[0] = score[1] = -INFINITY;
    if (high + 8 >= valid)
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
      for (int t = 0; t < parts * 4; ++t) {
        sum[t][c] *= shrink;
        sum[t][c + 2] *= shrink;
      }
    }
    const unsigned weight_low = transpose(join_pair(score[0], score[1]));
    const unsigned weight_high = transpose(join_pair(score[2], score[3]));
#pragma unroll
    for (int p = 0; p < parts; ++p) {
      const auto add_tile = [&](int number, unsigned a, unsigned b, unsigned c, unsigned d) {
        multiply(sum[p * 4 + number], {low_halves(a, b), high_halves(a, b), low_halves(c, d), high_halves(c, d)},
                 weight_low, weight_high);
      };
      const auto& v = of.value[p];
      add_tile(0, v[0].x, v[1].x, v[2].x, v[3].x);
      add_tile(1, v[0].y, v[1].y, v[2].y, v[3].y);
      add_tile(2, v[0].z, v[1].z, v[2].z, v[3].z);
      add_tile(3, v[0].w, v[1].w, v[2].w, v[3].w);
    }
  }

  /// What is found for the first `heads`: the largest score, the sum of weights, and the sums.
  using of_heads = float[group_most][parts * 64 + 2];
  __device__ __forceinline__ void write(of_heads& found, int heads, float scale) {
    const int high = threadIdx.x % 32 / 4;
    const int low = threadIdx.x % 4;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
#pragma unroll
      for (int step = 4; step < 32; step *= 2)
        total[c] += __shfl_xor_sync(0xffff'ffffU, total[c], step);
      if (low * 2 + c >= heads)
        continue;
      auto* const to = reinterpret_cast<float2*>(found[low * 2 + c]);
      if (high == 0)
        *to = {top[c] * scale, total[c]};
#pragma unroll
      for (int t = 0; t < parts * 4; ++t)
        to[1 + t / 4 * 32 + high * 4 + t % 4] = {sum[t][c], sum[t][c + 2]};
    }
  }
};

} // namespace troupe::gpu::cuda
