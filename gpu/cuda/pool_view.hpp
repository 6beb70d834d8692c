#pragma once

#include "gpu/cuda/kernels.hpp"
#include "gpu/cuda/pack.hpp"

namespace troupe::gpu::cuda {

/// One layer's view of a pool: [block][head][keys, values][token][element].
template <class T>
struct pool_view {
  T* data = nullptr;
  std::int64_t block = 0, head = 0, values = 0; ///< strides
  int block_tokens = 0;
  int blocks = 0;

  /// Keys of a block and head, token after token.
  __device__ __forceinline__ T* keys(int number, int of_head) const { return data + number * block + of_head * head; }
};

template <class T>
pool_view<T> pool_in(const tensor_view& pool) {
  return {
      static_cast<T*>(pool.data()),   pool.stride(0), pool.stride(1), pool.stride(2), static_cast<int>(pool.shape(3)),
      static_cast<int>(pool.shape(0))};
}

} // namespace troupe::gpu::cuda
