#include "gpu/cuda/kernels.hpp"
#include "gpu/cuda/pack.hpp"

namespace troupe::gpu::cuda {

namespace {

/// Rows are heads; `turn` is the token's row of angles, which its heads share.
template <int N, class T>
__global__ void rotate(int rows, int half, int heads, rows_of<T> in_place, rows_of<const float> cos,
                       rows_of<const float> sin) {
  const int row = blockIdx.x * blockDim.y + threadIdx.y;
  const int column = (blockIdx.y * blockDim.x + threadIdx.x) * N;
  if (row >= rows || column >= half)
    return;
  T* const low = in_place[row] + column;
  T* const high = low + half;
  float a[N];
  float b[N];
  float c[N];
  float s[N];
  load<N>(low, a);
  load<N>(high, b);
  load<N>(cos[row / heads] + column, c);
  load<N>(sin[row / heads] + column, s);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float turned = a[i] * c[i] - b[i] * s[i];
    b[i] = b[i] * c[i] + a[i] * s[i];
    a[i] = turned;
  }
  store<N>(low, a);
  store<N>(high, b);
}

} // namespace

cudaError_t rotate_heads(cudaStream_t on, const tensor_view& heads, const tensor_view& cos, const tensor_view& sin) {
  const int rows = count_rows(heads);
  const int half = width_of(heads) / 2;
  if (rows == 0)
    return cudaSuccess;
  return with_type(heads.element(), [&](auto kind) {
    using type = typename decltype(kind)::type;
    return with_packs<type>(
        [&](auto packed) {
          const row_grid grid{rows, half / packed()};
          rotate<packed()><<<grid.blocks, grid.threads, 0, on>>>(rows, half, static_cast<int>(heads.shape(1)),
                                                                 rows_in<type>(heads), rows_in<const float>(cos),
                                                                 rows_in<const float>(sin));
          return cudaSuccess;
        },
        heads.columns(0, half), cos, sin);
  });
}

} // namespace troupe::gpu::cuda
