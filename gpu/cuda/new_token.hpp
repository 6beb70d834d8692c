#pragma once

#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/head_part.hpp"
#include "gpu/cuda/key_tiles.hpp"

/// What the kernels of a decode step's attention share, in bf16: a new token's heads are normed and turned by every
/// block that needs them, and take part from its shared memory, so that no block waits for what another stores.
/// Included by .cu files alone.
namespace troupe::gpu::cuda {

struct step_task {
  rows_of<const bf16> joined; ///< rows of tokens
  int heads = 0;              ///< of queries
  int kv_heads = 0;
  int width = 0;
  const float* query_norm = nullptr; ///< or none
  const float* key_norm = nullptr;
  float epsilon = 0.0F;
  rows_of<const float> cos, sin;
  const std::int32_t* slots = nullptr;
  const std::int32_t* contexts = nullptr;
  rows_of<const std::int32_t> blocks;
  pool_view<bf16> pool;
  float scale = 1.0F;
  rows_of<bf16> out; ///< rows of tokens and heads
};

inline step_task step_task_of(const new_heads& heads, const tensor_view& pool, const paged_tokens& where, float scale,
                              const tensor_view& out) {
  return {.joined = rows_in<const bf16>(heads.joined),
          .heads = static_cast<int>(out.shape(1)),
          .kv_heads = static_cast<int>(pool.shape(1)),
          .width = width_of(out),
          .query_norm = static_cast<const float*>(heads.query_norm.data()),
          .key_norm = static_cast<const float*>(heads.key_norm.data()),
          .epsilon = heads.epsilon,
          .cos = rows_in<const float>(heads.cos),
          .sin = rows_in<const float>(heads.sin),
          .slots = where.slots.i32(),
          .contexts = where.context.i32(),
          .blocks = rows_in<const std::int32_t>(where.blocks),
          .pool = pool_in<bf16>(pool),
          .scale = scale,
          .out = rows_in<bf16>(out)};
}

/// Calls `body` with the elements of a head, rounded up to 32, as a constant.
template <class Body>
cudaError_t with_head_elements(int width, const Body& body) {
  if (width <= 32)
    return body(std::integral_constant<int, 32>{});
  if (width <= 64)
    return body(std::integral_constant<int, 64>{});
  if (width <= 96)
    return body(std::integral_constant<int, 96>{});
  return body(std::integral_constant<int, 128>{});
}

/// Of a group and the new token, in shared memory.
template <int D>
struct settled_heads {
  alignas(16) bf16 queries[group_most][D];
  alignas(16) bf16 key[D];
  alignas(16) bf16 value[D];

  /// This lane's part of an operand of the queries.
  __device__ __forceinline__ void read(int group, int width, uint4 (&query)[key_tile<D>::key_parts]) const {
    const int high = threadIdx.x % 32 / 4;
    const int low = threadIdx.x % 4;
#pragma unroll
    for (int p = 0; p < key_tile<D>::key_parts; ++p)
      query[p] = high < group && p * 32 + low * 8 < width
                     ? *reinterpret_cast<const uint4*>(&queries[high][p * 32 + low * 8])
                     : uint4{};
  }
};

/// The new token of a row on its way there, by a block of `split_warps` warps.
template <int D>
class new_token {
  static constexpr int rounds = (group_most + 2 + split_warps - 1) / split_warps; ///< of a head for each warp
  const step_task& of_;
  int row_, group_;
  int slot_;
  float cos_[2] = {};
  float sin_[2] = {};
  head_part scale_[rounds]; ///< of the warp's heads

  static __device__ __forceinline__ int number(int round) {
    return static_cast<int>(threadIdx.x) / 32 + round * split_warps;
  }

public:
  /// Reads what is there before the kernels before this one have ended.
  __device__ __forceinline__ new_token(const step_task& of, int row)
      : of_(of), row_(row), group_(of.heads / of.kv_heads), slot_(of.slots[row]) {
    const int half = of.width / 2;
    if (head_part::column() < half) {
      load<2>(of.cos[row] + head_part::column(), cos_);
      load<2>(of.sin[row] + head_part::column(), sin_);
    }
    if (of.query_norm)
#pragma unroll
      for (int r = 0; r < rounds; ++r)
        scale_[r].read(number(r) < group_ ? of.query_norm : of.key_norm, half);
  }
  /// Once they have. `with_new`: the new key and value too, which are then stored in the pool. Ends with a barrier.
  __device__ __forceinline__ void settle(int kv_head, bool with_new, settled_heads<D>& to) const {
    const int half = of_.width / 2;
    const bf16* const token = of_.joined[row_];
    const int wanted = group_ + (with_new ? 2 : 0);
    head_part part[rounds]; // all of a warp's come at once
#pragma unroll
    for (int r = 0; r < rounds; ++r) {
      const int head = number(r) < group_    ? kv_head * group_ + number(r)
                       : number(r) == group_ ? of_.heads + kv_head
                                             : of_.heads + of_.kv_heads + kv_head;
      if (number(r) < wanted)
        part[r].read(token + head * of_.width, half);
    }
#pragma unroll
    for (int r = 0; r < rounds; ++r) {
      if (number(r) >= wanted)
        break;
      if (number(r) <= group_) {
        if (of_.query_norm)
          part[r].norm(scale_[r], of_.epsilon, of_.width);
        part[r].turn(cos_, sin_);
      }
      part[r].write(number(r) < group_ ? to.queries[number(r)] : number(r) == group_ ? to.key : to.value, half);
    }
    __syncthreads();
    if (with_new && static_cast<int>(threadIdx.x) < of_.width / 8) {
      const int block = of_.pool.page_of(slot_);
      if (slot_ < 0 || block >= of_.pool.blocks)
        __trap();
      bf16* const at = of_.pool.keys(block, kv_head) + of_.pool.place_of(slot_) * of_.width + threadIdx.x * 8;
      *reinterpret_cast<uint4*>(at) = *reinterpret_cast<const uint4*>(to.key + threadIdx.x * 8);
      *reinterpret_cast<uint4*>(at + of_.pool.values) = *reinterpret_cast<const uint4*>(to.value + threadIdx.x * 8);
    }
  }
};

} // namespace troupe::gpu::cuda
