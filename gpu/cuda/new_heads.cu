#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/head_part.hpp"
#include "gpu/cuda/pool_view.hpp"

// Heads of many new tokens before they attend, in bf16 and in one pass: bytes bound it, each head read once and written
// once. A warp has four heads of one token, which share its angles.

namespace troupe::gpu::cuda {

namespace {

constexpr int warps = 8;
constexpr int heads_at_once = 4;

struct task {
  int tokens = 0;
  rows_of<bf16> joined; ///< rows of tokens
  int query_heads = 0;
  int kv_heads = 0;
  int width = 0;
  const float* query_norm = nullptr; ///< or none
  const float* key_norm = nullptr;
  float epsilon = 0.0F;
  rows_of<const float> cos, sin;
  const std::int32_t* slots = nullptr;
  pool_view<bf16> pool;
};

__global__ void __launch_bounds__(32 * warps) settle(const task of) {
  await_kernels_before();
  const int heads = of.query_heads + 2 * of.kv_heads;
  const int parts = (heads + heads_at_once - 1) / heads_at_once; // of a token
  const int number = blockIdx.x * warps + threadIdx.x / 32;
  const int token = number / parts;
  const int first = number % parts * heads_at_once;
  if (token >= of.tokens)
    return;
  const int half = of.width / 2;
  bf16* const row = of.joined[token];
  head_part part[heads_at_once];
#pragma unroll
  for (int i = 0; i < heads_at_once; ++i)
    if (first + i < heads)
      part[i].read(row + (first + i) * of.width, half);
  float cos[2] = {};
  float sin[2] = {};
  if (head_part::column() < half) {
    load<2>(of.cos[token] + head_part::column(), cos);
    load<2>(of.sin[token] + head_part::column(), sin);
  }
  const int slot = of.slots[token];
  const int block = of.pool.page_of(slot);
  if (slot < -1 || block >= of.pool.blocks)
    __trap();
#pragma unroll
  for (int i = 0; i < heads_at_once; ++i) {
    const int head = first + i;
    if (head >= heads)
      break;
    const bool is_query = head < of.query_heads;
    const bool is_value = head >= of.query_heads + of.kv_heads;
    if (!is_value) {
      if (of.query_norm) {
        head_part scale;
        scale.read(is_query ? of.query_norm : of.key_norm, half);
        part[i].norm(scale, of.epsilon, of.width);
      }
      part[i].turn(cos, sin);
    }
    if (is_query) {
      part[i].write(row + head * of.width, half);
    } else if (slot >= 0) {
      bf16* const keys = of.pool.keys(block, (head - of.query_heads) % of.kv_heads);
      part[i].write(keys + (is_value ? of.pool.values : 0) + of.pool.place_of(slot) * of.width, half);
    }
  }
}

} // namespace

bool fits_settling(const new_heads& heads, const tensor_view& pool) {
  return pool.element() == element_kind::bf16 && heads.joined.element() == element_kind::bf16 &&
         pool.shape(4) % 4 == 0 && pool.shape(4) <= 128 && packs_fit(2, pool, heads.joined, heads.cos, heads.sin);
}

cudaError_t settle_heads(cudaStream_t on, const new_heads& heads, int query_heads, const tensor_view& slots,
                         const tensor_view& pool) {
  const task of{.tokens = static_cast<int>(heads.joined.shape(0)),
                .joined = rows_in<bf16>(heads.joined),
                .query_heads = query_heads,
                .kv_heads = static_cast<int>(pool.shape(1)),
                .width = width_of(pool),
                .query_norm = heads.query_norm ? heads.query_norm.f32() : nullptr,
                .key_norm = heads.query_norm ? heads.key_norm.f32() : nullptr,
                .epsilon = heads.epsilon,
                .cos = rows_in<const float>(heads.cos),
                .sin = rows_in<const float>(heads.sin),
                .slots = slots.i32(),
                .pool = pool_in<bf16>(pool)};
  const int parts = ceil_div(query_heads + 2 * of.kv_heads, heads_at_once);
  return launch_early(on, static_cast<unsigned>(ceil_div(std::int64_t{of.tokens} * parts, warps)), 32 * warps, 0,
                      settle, of);
}

} // namespace troupe::gpu::cuda
