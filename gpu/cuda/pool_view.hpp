#pragma once

#include <bit>

#include "gpu/cuda/kernels.hpp"
#include "gpu/cuda/pack.hpp"

namespace troupe::gpu::cuda {

/// One layer's view of a pool: [block][head][keys, values][token][element].
template <class T>
struct pool_view {
  T* data = nullptr;
  std::int64_t block = 0, head = 0, values = 0; ///< strides
  int block_shift = 0;                          ///< a block has 2^this tokens
  int blocks = 0;

  __device__ __forceinline__ int block_tokens() const { return 1 << block_shift; }
  __device__ __forceinline__ int page_of(int token) const { return token >> block_shift; }
  __device__ __forceinline__ int place_of(int token) const { return token & (block_tokens() - 1); }
  /// Keys of a block and head, token after token.
  __device__ __forceinline__ T* keys(int number, int of_head) const { return data + number * block + of_head * head; }
};

template <class T>
pool_view<T> pool_in(const tensor_view& pool) {
  const auto block_tokens = static_cast<unsigned>(pool.shape(3));
  TROUPE_ASSERT("kv", block_tokens >= 16 && std::has_single_bit(block_tokens));
  return {
      static_cast<T*>(pool.data()),   pool.stride(0), pool.stride(1), pool.stride(2), std::countr_zero(block_tokens),
      static_cast<int>(pool.shape(0))};
}

} // namespace troupe::gpu::cuda
