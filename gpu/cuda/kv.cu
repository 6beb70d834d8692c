#include "gpu/cuda/pool_view.hpp"

namespace troupe::gpu::cuda {

namespace {

/// A row is one head of one new token.
template <int N, class T>
__global__ void store_tokens(int rows, int heads, int width, rows_of<const T> k, rows_of<const T> v,
                             const std::int32_t* slots, pool_view<T> pool) {
  const int row = blockIdx.x * blockDim.y + threadIdx.y;
  const int column = (blockIdx.y * blockDim.x + threadIdx.x) * N;
  if (row >= rows || column >= width)
    return;
  const int slot = slots[row / heads];
  if (slot == -1)
    return;
  const int block = pool.page_of(slot);
  if (slot < 0 || block >= pool.blocks)
    __trap();
  T* const to = pool.keys(block, row % heads) + pool.place_of(slot) * width + column;
  using bits = pack<T, N>;
  *reinterpret_cast<bits*>(to) = *reinterpret_cast<const bits*>(k[row] + column);
  *reinterpret_cast<bits*>(to + pool.values) = *reinterpret_cast<const bits*>(v[row] + column);
}

} // namespace

cudaError_t store_kv(cudaStream_t on, const tensor_view& k, const tensor_view& v, const tensor_view& slots,
                     const tensor_view& pool) {
  const int rows = count_rows(k);
  const int width = width_of(k);
  if (rows == 0)
    return cudaSuccess;
  return with_type(pool.element(), [&](auto kind) {
    using type = typename decltype(kind)::type;
    return with_packs<type>(
        [&](auto packed) {
          const row_grid grid{rows, width / packed()};
          store_tokens<packed()><<<grid.blocks, grid.threads, 0, on>>>(rows, static_cast<int>(k.shape(1)), width,
                                                                       rows_in<const type>(k), rows_in<const type>(v),
                                                                       slots.i32(), pool_in<type>(pool));
          return cudaSuccess;
        },
        k, v, pool);
  });
}

} // namespace troupe::gpu::cuda
