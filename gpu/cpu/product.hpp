#pragma once

#include <cstdint>

namespace troupe::gpu::cpu {

/// out [m, n] (+)= left [m, k] . right [k, n], or right [n, k] transposed. Row-major; strides between rows in floats.
struct product_shape {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  bool right_transposed = false;
  bool accumulate = false;
};

/// oneDNN's matrix product on the calling thread's OpenMP setting.
void multiply(const product_shape& shape, const float* left, std::int64_t left_stride, const float* right,
              std::int64_t right_stride, float* out, std::int64_t out_stride);

} // namespace troupe::gpu::cpu
