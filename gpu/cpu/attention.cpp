#include "gpu/cpu/attention.hpp"

#include <algorithm>
#include <cstring>

#include "gpu/cpu/kernels.hpp"
#include "gpu/cpu/product.hpp"

namespace troupe::gpu::cpu {

namespace {

/// Queries whose scores are held at a time: bounds the scratch memory, and keeps a tile within the second-level cache.
constexpr std::int64_t tile_rows = 64;
/// From this many new tokens on a sequence's keys and values are gathered once and multiplied as matrices.
constexpr std::int64_t gather_tokens = 8;

/// A head's rows: queries, keys or values.
struct head_rows {
  float* data = nullptr;
  std::int64_t stride = 0;
};
head_rows head_of(const tensor_view& heads, std::int64_t head, std::int64_t first_token = 0) {
  return {heads.f32() + first_token * heads.stride(0) + head * heads.stride(1), heads.stride(0)};
}

struct span_of_queries {
  std::int64_t tokens = 0;
  std::int64_t keys = 0;
  std::int64_t context = -1; ///< query t sees keys [0, context + t]; -1: all of them
  std::int64_t width = 0;
  float scale = 1.0F;
};

/// One head: out = softmax(q . k, masked) . v, a tile of queries at a time.
void attend_head(head_rows q, head_rows k, head_rows v, head_rows out, const span_of_queries& what, float* scores) {
  const bool causal = what.context >= 0;
  for (std::int64_t first = 0; first < what.tokens; first += tile_rows) {
    const std::int64_t rows = std::min(tile_rows, what.tokens - first);
    const std::int64_t keys = causal ? what.context + first + rows : what.keys;
    multiply({.m = rows, .n = keys, .k = what.width, .right_transposed = true}, q.data + first * q.stride, q.stride,
             k.data, k.stride, scores, keys);
    for (std::int64_t row = 0; row < rows; ++row) {
      float* const line = scores + row * keys;
      const std::int64_t seen = causal ? what.context + first + row + 1 : keys;
      best_kernels().softmax(line, seen, what.scale);
      std::fill(line + seen, line + keys, 0.0F);
    }
    multiply({.m = rows, .n = what.width, .k = keys}, scores, keys, v.data, v.stride, out.data + first * out.stride,
             out.stride);
  }
}

/// One sequence's part of a step, with what it takes to find its keys and values.
struct paged_sequence {
  std::int64_t first = 0;
  std::int64_t tokens = 0;
  std::int64_t context = 0;
  const std::int32_t* blocks = nullptr;
};

/// Where a block's keys (0) or values (1) of a head begin, in elements.
std::int64_t run_at(const tensor_view& pool, std::int32_t block, std::int64_t head, std::int64_t which) {
  return block * pool.stride(0) + head * pool.stride(1) + which * pool.stride(2);
}
const float* run_of(const tensor_view& pool, std::int32_t block, std::int64_t head, std::int64_t which) {
  return pool.f32() + run_at(pool, block, head, which);
}

void gather_run(const tensor_view& pool, const paged_sequence& of, std::int64_t head, std::int64_t which,
                std::int64_t keys, float* to) {
  const std::int64_t block_tokens = pool.shape(3);
  const std::int64_t width = pool.shape(4);
  for (std::int64_t at = 0; at < keys; at += block_tokens) {
    const std::int64_t first = run_at(pool, of.blocks[at / block_tokens], head, which);
    const std::int64_t count = std::min(block_tokens, keys - at) * width;
    if (pool.element() == element_kind::f32)
      std::copy_n(pool.f32() + first, count, to + at * width);
    else
      std::transform(pool.bf16() + first, pool.bf16() + first + count, to + at * width, widen);
  }
}

void attend_many(cpu_stream& on, const tensor_view& q, const tensor_view& pool, const paged_sequence& of, float scale,
                 const tensor_view& out) {
  const std::int64_t width = pool.shape(4);
  const std::int64_t keys = of.context + of.tokens;
  const std::int64_t group = q.shape(1) / pool.shape(1);
  const auto scratch = on.scratch(static_cast<std::size_t>(2 * keys * width + tile_rows * keys));
  float* const k = scratch.data();
  float* const v = k + keys * width;
  float* const scores = v + keys * width;
  for (std::int64_t head = 0; head < q.shape(1); ++head) {
    if (head % group == 0) {
      gather_run(pool, of, head / group, 0, keys, k);
      gather_run(pool, of, head / group, 1, keys, v);
    }
    attend_head(head_of(q, head, of.first), {k, width}, {v, width}, head_of(out, head, of.first),
                {.tokens = of.tokens, .keys = keys, .context = of.context, .width = width, .scale = scale}, scores);
  }
}

/// Token by token straight from the pool; the query heads of a group are rows of one product.
void attend_few(cpu_stream& on, const tensor_view& q, const tensor_view& pool, const paged_sequence& of, float scale,
                const tensor_view& out) {
  const std::int64_t block_tokens = pool.shape(3);
  const std::int64_t width = pool.shape(4);
  const std::int64_t group = q.shape(1) / pool.shape(1);
  const auto scratch = on.scratch(static_cast<std::size_t>(group * (of.context + of.tokens)));
  const kernels& run = best_kernels();
  for (std::int64_t token = 0; token < of.tokens; ++token) {
    const std::int64_t keys = of.context + token + 1;
    float* const scores = scratch.data();
    for (std::int64_t head = 0; head < pool.shape(1); ++head) {
      const float* const queries = head_of(q, head * group, of.first + token).data;
      float* const answers = head_of(out, head * group, of.first + token).data;
      for (std::int64_t at = 0; at < keys; at += block_tokens)
        run.dot_rows(queries, q.stride(1), group, run_of(pool, of.blocks[at / block_tokens], head, 0), width,
                     std::min(block_tokens, keys - at), width, scores + at, keys);
      for (std::int64_t row = 0; row < group; ++row) {
        run.softmax(scores + row * keys, keys, scale);
        std::fill_n(answers + row * out.stride(1), width, 0.0F);
      }
      for (std::int64_t at = 0; at < keys; at += block_tokens)
        run.weigh_rows(scores + at, keys, group, run_of(pool, of.blocks[at / block_tokens], head, 1),
                       std::min(block_tokens, keys - at), width, answers, out.stride(1));
    }
  }
}

} // namespace

void attend(cpu_stream& on, const tensor_view& q, const tensor_view& k, const tensor_view& v, float scale,
            const tensor_view& out) {
  const std::int64_t tokens = q.shape(0);
  TROUPE_ASSERT("attention", k.shape(0) == tokens && v.shape(0) == tokens && out.shape(0) == tokens);
  TROUPE_ASSERT("attention", k.shape(1) == q.shape(1) && v.shape(1) == q.shape(1) && out.shape(1) == q.shape(1));
  float* const scores = on.scratch(static_cast<std::size_t>(tile_rows * tokens)).data();
  for (std::int64_t head = 0; head < q.shape(1); ++head)
    attend_head(head_of(q, head), head_of(k, head), head_of(v, head), head_of(out, head),
                {.tokens = tokens, .keys = tokens, .width = q.shape(2), .scale = scale}, scores);
}

void store_kv(const tensor_view& k, const tensor_view& v, const tensor_view& slots, const tensor_view& pool) {
  const std::int64_t block_tokens = pool.shape(3);
  const std::int64_t width = pool.shape(4);
  TROUPE_ASSERT("kv", k.shape(0) == slots.shape(0) && k.shape(1) == pool.shape(1) && k.shape(2) == width);
  TROUPE_ASSERT("kv", k.element() == pool.element() && v.element() == pool.element());
  const auto each = static_cast<std::int64_t>(bytes_of(pool.element()));
  const auto store = [&](const tensor_view& from, std::int64_t token, std::int64_t head, std::int64_t to) {
    std::memcpy(static_cast<std::byte*>(pool.data()) + to * each,
                static_cast<const std::byte*>(from.data()) + (token * from.stride(0) + head * from.stride(1)) * each,
                static_cast<std::size_t>(width * each));
  };
  for (std::int64_t token = 0; token < slots.shape(0); ++token) {
    const std::int32_t slot = slots.i32()[token];
    if (slot == -1)
      continue;
    const auto block = static_cast<std::int32_t>(slot / block_tokens);
    TROUPE_ASSERT("kv", slot >= 0 && block < pool.shape(0));
    for (std::int64_t head = 0; head < k.shape(1); ++head) {
      const std::int64_t place = slot % block_tokens * width;
      store(k, token, head, run_at(pool, block, head, 0) + place);
      store(v, token, head, run_at(pool, block, head, 1) + place);
    }
  }
}

void attend_paged(cpu_stream& on, const tensor_view& q, const tensor_view& pool, const paged_tokens& where, float scale,
                  const tensor_view& out) {
  TROUPE_ASSERT("attention", q.shape(1) % pool.shape(1) == 0 && q.shape(2) == pool.shape(4));
  TROUPE_ASSERT("attention", out.shape(0) == q.shape(0) && out.shape(1) == q.shape(1) && out.shape(2) == q.shape(2));
  const std::int64_t sequences = where.context.shape(0);
  for (std::int64_t i = 0; i < sequences; ++i) {
    const std::int32_t first = where.first.i32()[i];
    const paged_sequence of{.first = first,
                            .tokens = where.first.i32()[i + 1] - first,
                            .context = where.context.i32()[i],
                            .blocks = where.blocks.i32() + i * where.blocks.stride(0)};
    if (of.context < 0)
      continue;
    if (of.tokens < gather_tokens && pool.element() == element_kind::f32)
      attend_few(on, q, pool, of, scale, out);
    else
      attend_many(on, q, pool, of, scale, out);
  }
}

} // namespace troupe::gpu::cpu
