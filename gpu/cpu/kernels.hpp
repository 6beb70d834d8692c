#pragma once

#include <cstdint>

namespace troupe::gpu::cpu {

/// The inner loops of the CPU's operations, compiled once for each instruction set and chosen when the process starts:
/// a build for every x86-64 still uses the widest vectors that the machine has.
/// Pointers need no alignment; sizes and strides are in floats.
struct kernels {
  const char* name;

  /// out[r, i] = x[r] . w[i] for r < rows, i < n.
  void (*dot_rows)(const float* x, std::int64_t x_stride, std::int64_t rows, const float* w, std::int64_t w_stride,
                   std::int64_t n, std::int64_t k, float* out, std::int64_t out_stride);
  /// out[r] += sum over j < n of p[r, j] x v[j], each of `width`.
  void (*weigh_rows)(const float* p, std::int64_t p_stride, std::int64_t rows, const float* v, std::int64_t n,
                     std::int64_t width, float* out, std::int64_t out_stride);
  /// row = softmax(scale x row)
  void (*softmax)(float* row, std::int64_t n, float scale);
  void (*rms_norm)(const float* x, const float* weight, float epsilon, std::int64_t n, float* out);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon, std::int64_t n, float* out);
  void (*gelu_tanh)(float* x, std::int64_t n);
  void (*silu_mul)(const float* gate, const float* up, std::int64_t n, float* out);
  void (*add)(float* to, const float* what, std::int64_t n);
  void (*add_scaled)(float* to, const float* what, float factor, std::int64_t n);
  void (*rotate)(float* head, const float* cos, const float* sin, std::int64_t half);
};

const kernels& best_kernels() noexcept;

namespace detail {
extern const kernels baseline;
#if defined(__x86_64__) && !defined(__clang__)
extern const kernels avx2;
extern const kernels avx512;
#endif
} // namespace detail

} // namespace troupe::gpu::cpu
