#pragma once

#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "gpu/tensor.hpp"

/// What every kernel family shares: numbers read and written 16 bytes at a time and computed with in f32, rows of
/// strided views, and the choice of a kernel by element kind. Included by .cu files alone.
namespace troupe::gpu::cuda {

using bf16 = __nv_bfloat16;

/// N elements that go in one access (two for 8 f32).
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) pack {
  T of[N];
};

template <int N, class T>
__device__ __forceinline__ void load(const T* from, float (&to)[N]) {
  const auto raw = *reinterpret_cast<const pack<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i)
    to[i] = static_cast<float>(raw.of[i]);
}
template <int N, class T>
__device__ __forceinline__ void store(T* to, const float (&from)[N]) {
  pack<T, N> raw;
#pragma unroll
  for (int i = 0; i < N; ++i)
    raw.of[i] = static_cast<T>(from[i]); // bf16: to the nearest, halves to even
  *reinterpret_cast<pack<T, N>*>(to) = raw;
}

/// Every dimension but the last.
template <class T>
struct rows_of {
  T* data = nullptr;
  std::int64_t outer = 0;
  std::int64_t inner = 0;
  int inner_rows = 1;

  __device__ __forceinline__ T* operator[](int row) const {
    return data + row / inner_rows * outer + row % inner_rows * inner;
  }
};

template <class T>
rows_of<T> rows_in(const tensor_view& view) {
  auto* const data = static_cast<T*>(view.data());
  if (view.rank() == 1)
    return {data, 0, 0, 1};
  return view.rank() == 2 ? rows_of<T>{data, view.stride(0), 0, 1}
                          : rows_of<T>{data, view.stride(0), view.stride(1), static_cast<int>(view.shape(1))};
}
inline int count_rows(const tensor_view& view) {
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < view.rank(); ++i)
    rows *= view.shape(i);
  return static_cast<int>(rows);
}
inline int width_of(const tensor_view& view) {
  return static_cast<int>(view.shape(view.rank() - 1));
}

/// Whether every row of the views can be read `count` elements at a time.
template <class... Views>
bool packs_fit(int count, const Views&... views) {
  const auto fits = [count](const tensor_view& view) {
    const auto bytes = std::min<std::size_t>(16, static_cast<std::size_t>(count) * bytes_of(view.element()));
    bool whole = width_of(view) % count == 0 && reinterpret_cast<std::uintptr_t>(view.data()) % bytes == 0;
    for (std::size_t i = 0; i + 1 < view.rank(); ++i)
      whole = whole && (view.shape(i) <= 1 || view.stride(i) % count == 0);
    return whole;
  };
  return (fits(views) && ...);
}

template <class T>
struct type_is {
  using type = T;
};
/// Calls `body(type_is<T>)` with the C++ type of an element kind.
template <class Body>
cudaError_t with_type(element_kind kind, const Body& body) {
  TROUPE_ASSERT("kernel", kind != element_kind::i32);
  return kind == element_kind::bf16 ? body(type_is<bf16>{}) : body(type_is<float>{});
}
/// Calls `body` with the number of elements of an access as a constant: the widest for T..., or one.
template <class... T, class Body, class... Views>
cudaError_t with_packs(const Body& body, const Views&... views) {
  constexpr int wide = std::min({static_cast<int>(sizeof(T))...}) == 2 ? 8 : 4;
  if (packs_fit(wide, views...))
    return body(std::integral_constant<int, wide>{});
  return body(std::integral_constant<int, 1>{});
}

inline int ceil_div(std::int64_t a, std::int64_t b) {
  return static_cast<int>((a + b - 1) / b);
}

/// A thread for each pack of each row: blocks of 256 threads that are as wide as a row needs.
struct row_grid {
  dim3 blocks, threads;
  row_grid(int rows, int packs) {
    unsigned wide = 1;
    while (wide < 256 && static_cast<int>(wide) < packs)
      wide *= 2;
    threads = dim3{wide, 256 / wide};
    blocks = dim3{static_cast<unsigned>(ceil_div(rows, threads.y)), static_cast<unsigned>(ceil_div(packs, wide))};
  }
};

// ---- softmax, in powers of two ----
inline constexpr float log2_e = 1.44269504F;
inline constexpr float lowest = -1e30F; ///< of scores; finite, so that lowest - lowest is 0
/// 2^x within 2 units of the last place; 0 for what is far below.
__device__ __forceinline__ float power_of_two(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

/// Sum over the 2^k lanes that differ in their lower bits; every one has it.
template <int Lanes = 32, class Number>
__device__ __forceinline__ Number sum_lanes(Number value) {
#pragma unroll
  for (int step = Lanes / 2; step > 0; step /= 2)
    value += __shfl_xor_sync(0xffff'ffffU, value, step);
  return value;
}
/// Sum over the lanes of the warp up to this one.
template <class Number>
__device__ __forceinline__ Number sum_through_lane(Number value) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const Number other = __shfl_up_sync(0xffff'ffffU, value, step);
    if (lane >= step)
      value += other;
  }
  return value;
}

} // namespace troupe::gpu::cuda
