#pragma once

#include <cuda_runtime.h>

#include "gpu/cuda/pack.hpp"
#include "gpu/cuda/token_weights.hpp"
#include "gpu/rule_record.hpp"

/// The rows of logits of which `sampling.cu` chooses, and how a row's logits are read: as the model gives them, or by
/// the rules of its sequence. Included by .cu files alone.
namespace troupe::gpu::cuda {

inline constexpr int id_bits = 20;

inline constexpr int part_threads = 256;
inline constexpr int part_tokens = part_threads * 16;
inline constexpr int row_threads = 1024;
inline constexpr int listed_most = 2048; ///< tokens of one size that are sorted at once

inline constexpr int top_most = told_entries - 1;

/// Of a part of a row that is told of: its raw logits.
struct part_told {
  double sum = 0.0; ///< of exp(logit - largest)
  u64 top[top_most] = {};
  float largest = 0.0F;
};

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
  // Rules; null where no row has any.
  const std::int32_t* place = nullptr;
  const std::int32_t* records = nullptr;
  const std::int32_t* marks = nullptr;
  std::int64_t marks_stride = 0;
  const std::int32_t* turn = nullptr;
  std::int32_t* told = nullptr;
  std::int64_t told_stride = 0; ///< of a turn
  int turns = 1;
  part_told* parts_told = nullptr; ///< [rows, parts]
};

/// A row's logits as the model gives them.
struct plain_logits {
  const float* logits;
  __device__ __forceinline__ float operator[](int id) const { return logits[id]; }
};
/// As the rules of its sequence make them.
struct ruled_logits {
  const float* logits;
  const std::int32_t* marks;
  const std::int32_t* record;
  u64 position;
  __device__ __forceinline__ float operator[](int id) const {
    return ruled_logit(logits[id], id, marks[id], record, position);
  }
};

/// The record of a row's rules; null where it has none.
__device__ __forceinline__ const std::int32_t* record_of(const sampled_rows& of, int row) {
  const int place = of.place != nullptr ? of.place[row] : -1;
  return place >= 0 ? of.records + std::int64_t{place} * rule_words : nullptr;
}
/// Not inlined, so that rules cost rows without them no registers.
template <class Body>
__device__ __noinline__ void by_rules(const ruled_logits& logits, const Body& body) {
  body(logits);
}
/// Calls `body(logits)` with the reader that the row needs.
template <class Body>
__device__ __forceinline__ void with_logits(const sampled_rows& of, int row, const std::int32_t* record, Body body) {
  const float* const logits = of.logits + row * of.stride;
  if (record != nullptr && record[rule_changes] != 0)
    by_rules({logits, of.marks + of.place[row] * of.marks_stride, record, static_cast<u64>(of.answered[row])}, body);
  else
    body(plain_logits{logits});
}

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

} // namespace troupe::gpu::cuda
