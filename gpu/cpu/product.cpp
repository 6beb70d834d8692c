#include "gpu/cpu/product.hpp"

#include <oneapi/dnnl/dnnl.h>

#include "gpu/cpu/threads.hpp"
#include "runtime/base/assert.hpp"

namespace troupe::gpu::cpu {

void multiply(const product_shape& shape, const float* left, std::int64_t left_stride, const float* right,
              std::int64_t right_stride, float* out, std::int64_t out_stride) {
  apply_threads();
  const dnnl_status_t status =
      dnnl_sgemm('N', shape.right_transposed ? 'T' : 'N', shape.m, shape.n, shape.k, 1.0F, left, left_stride, right,
                 right_stride, shape.accumulate ? 1.0F : 0.0F, out, out_stride);
  TROUPE_ASSERT("product", status == dnnl_success);
}

} // namespace troupe::gpu::cpu
