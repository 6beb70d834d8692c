#include <algorithm>

#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/kernels.hpp"
#include "gpu/cuda/pack.hpp"

namespace troupe::gpu::cuda {

namespace {

/// Table rows that an index may name. A bad one ends the kernel with an error of the device, which ends the rank.
__device__ __forceinline__ int checked(int row, int rows) {
  if (row < 0 || row >= rows)
    __trap();
  return row;
}

template <int N, class Out, class In>
__global__ void gather(int rows, int width, rows_of<const In> table, int table_rows, const std::int32_t* index,
                       rows_of<Out> out) {
  await_kernels_before(); // and lets nobody begin: what is read early behind it may be of the kernel before it
  const int row = blockIdx.x * blockDim.y + threadIdx.y;
  const int column = (blockIdx.y * blockDim.x + threadIdx.x) * N;
  if (row >= rows || column >= width)
    return;
  float x[N];
  load<N>(table[checked(index[row], table_rows)] + column, x);
  store<N>(out[row] + column, x);
}

/// out[i] += sum over j of weight[i, j] x table[index[i, j]]
template <int N, class Out, class In>
__global__ void add_weighted(int rows, int width, rows_of<const In> table, int table_rows,
                             rows_of<const std::int32_t> index, rows_of<const float> weight, int terms,
                             rows_of<Out> out) {
  const int row = blockIdx.x * blockDim.y + threadIdx.y;
  const int column = (blockIdx.y * blockDim.x + threadIdx.x) * N;
  if (row >= rows || column >= width)
    return;
  float sum[N];
  load<N>(out[row] + column, sum);
  for (int j = 0; j < terms; ++j) {
    float x[N];
    load<N>(table[checked(index[row][j], table_rows)] + column, x);
    const float factor = weight[row][j];
#pragma unroll
    for (int i = 0; i < N; ++i)
      sum[i] += factor * x[i];
  }
  store<N>(out[row] + column, sum);
}

/// In integers, so that the order of blocks and threads changes nothing.
__global__ void add_checksum(std::uint64_t count, const std::uint32_t* words, std::uint32_t* into) {
  std::uint32_t sum = 0;
  const std::uint64_t step = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step)
    sum += (2 * static_cast<std::uint32_t>(i) + 1) * words[i];
  sum = __reduce_add_sync(~0U, sum);
  if (threadIdx.x % 32 == 0)
    atomicAdd(into, sum);
}

} // namespace

cudaError_t add_checksum(cudaStream_t on, const tensor_view& values, const tensor_view& into) {
  constexpr std::uint64_t threads = 256;
  constexpr std::uint64_t blocks_max = 512;
  const auto count = static_cast<std::uint64_t>(values.elements());
  if (count == 0)
    return cudaSuccess;
  const auto blocks = static_cast<unsigned>(std::min((count + threads - 1) / threads, blocks_max));
  add_checksum<<<blocks, threads, 0, on>>>(count, static_cast<const std::uint32_t*>(values.data()),
                                           static_cast<std::uint32_t*>(into.data()));
  return cudaSuccess;
}

cudaError_t gather_rows(cudaStream_t on, const tensor_view& table, const tensor_view& index, const tensor_view& to) {
  const int rows = count_rows(to);
  const int width = width_of(to);
  if (rows == 0)
    return cudaSuccess;
  return with_type(to.element(), [&](auto out_kind) {
    return with_type(table.element(), [&](auto in_kind) {
      using out = typename decltype(out_kind)::type;
      using in = typename decltype(in_kind)::type;
      return with_packs<out, in>(
          [&](auto packed) {
            constexpr int n = decltype(packed)::value;
            const row_grid grid{rows, width / n};
            return launch_early(on, grid.blocks, grid.threads, 0, gather<n, out, in>, rows, width,
                                rows_in<const in>(table), count_rows(table),
                                static_cast<const std::int32_t*>(index.i32()), rows_in<out>(to));
          },
          to, table);
    });
  });
}

cudaError_t add_weighted_rows(cudaStream_t on, const tensor_view& table, const tensor_view& index,
                              const tensor_view& weight, const tensor_view& to) {
  const int rows = count_rows(to);
  const int width = width_of(to);
  if (rows == 0)
    return cudaSuccess;
  return with_type(to.element(), [&](auto out_kind) {
    return with_type(table.element(), [&](auto in_kind) {
      using out = typename decltype(out_kind)::type;
      using in = typename decltype(in_kind)::type;
      return with_packs<out, in>(
          [&](auto packed) {
            constexpr int n = decltype(packed)::value;
            const row_grid grid{rows, width / n};
            add_weighted<n><<<grid.blocks, grid.threads, 0, on>>>(
                rows, width, rows_in<const in>(table), count_rows(table), rows_in<const std::int32_t>(index),
                rows_in<const float>(weight), width_of(index), rows_in<out>(to));
            return cudaSuccess;
          },
          to, table);
    });
  });
}

} // namespace troupe::gpu::cuda
