#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <compare>
#include <map>
#include <memory>

#include "gpu/cuda/cuda_buffer.hpp"

namespace troupe::gpu::cuda {

/// What decides which of cuBLASLt's kernels is best, and so what a plan is kept for.
struct product_shape {
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t x_stride = 0, weight_stride = 0, out_stride = 0;
  element_kind in = element_kind::f32, out = element_kind::f32;
  bool biased = false;
  std::uint32_t alignment = 0; ///< bytes, of every pointer

  auto operator<=>(const product_shape&) const = default;
};

/// Matrix products of one stream by cuBLASLt, in true f32 or in bf16 with f32 sums: no TF32, whose 10 bits of mantissa
/// would change which token is chosen. Finding a kernel takes longer than a small product, so plans are kept.
/// Threads: the stream's.
class product_plans {
public:
  product_plans();
  ~product_plans();
  product_plans(const product_plans&) = delete;
  product_plans& operator=(const product_plans&) = delete;

  /// out [m, n] = (out +) x [m, k] . weight [n, k] transposed + bias. Returns the words of what failed, or nothing.
  std::string multiply(const device& of, cudaStream_t on, const tensor_view& x, const tensor_view& weight,
                       const tensor_view& bias, const tensor_view& out, bool add = false);

private:
  struct plan;
  std::string prepare(const device& of);
  std::string find(const product_shape& shape, plan& into);

  cublasLtHandle_t library_ = nullptr;
  std::unique_ptr<cuda_buffer> workspace_;
  std::map<product_shape, std::unique_ptr<plan>> plans_;
};

} // namespace troupe::gpu::cuda
