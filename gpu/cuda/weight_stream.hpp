#pragma once

#include <cuda_runtime_api.h>

#include "gpu/cuda/kernels.hpp"

namespace troupe::gpu::cuda {

struct peer_call;

/// What becomes of the sums of a product.
enum class product_end : std::uint8_t {
  store,    ///< out = x . weight transposed + bias, f32 or bf16
  add,      ///< out (f32) += that
  silu_mul, ///< weight has twice as many rows as out columns: out (bf16) = silu(lower half) * upper half
};

/// A product of few rows in bf16. The reading of the weight bounds it; it begins before the kernels before it have
/// ended, so the weight must be no result of theirs.
struct few_rows_product {
  tensor_view x = {};                  ///< bf16 [m, k]
  const normed_rows* normed = nullptr; ///< instead of `x`, of one row: normed by every block for itself
  tensor_view weight = {};             ///< bf16 [n, k]
  tensor_view bias = {};               ///< of out's kind, or none
  tensor_view out = {};
  product_end end = product_end::store;
  /// With `add`: out += the sum of all members' products, each of its own part of the columns. They exchange it while
  /// the product runs, in whose blocks they wait for each other: see `fits_peers`.
  const peer_call* peers = nullptr;
};

/// Whether rows and alignment fit.
bool fits_weight_stream(const tensor_view& x, const tensor_view& weight, const tensor_view& out);
/// Whether a row of x can be normed on the way, instead of by a kernel of its own.
bool fits_normed(const tensor_view& x);
/// Whether a product that fits can be exchanged with peers on the way: each block makes one tile, and all of them are
/// on the GPU at once, so that none waits for one that cannot begin.
bool fits_peers(const few_rows_product& product, int multiprocessors);
cudaError_t stream_weights(cudaStream_t on, const few_rows_product& product, int multiprocessors);

} // namespace troupe::gpu::cuda
