#include "gpu/cuda/dependent.hpp"
#include "gpu/cuda/kernels.hpp"
#include "gpu/cuda/pack.hpp"

namespace troupe::gpu::cuda {

namespace {

constexpr int block_warps = 8;
/// Up to this many packs a row is a warp's, and a block does 8 of them; a longer one has a block of its own.
constexpr int warp_packs = 64;

/// Sum over the threads of a row: a warp, or the block. Called by all of them, any number of times.
template <int Warps>
__device__ __forceinline__ float sum_row(float value) {
  value = sum_lanes(value);
  if constexpr (Warps > 1) {
    __shared__ float each[Warps];
    __syncthreads(); // nobody still reads the sums before
    if (threadIdx.x % 32 == 0)
      each[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0.0F;
#pragma unroll
    for (int i = 0; i < Warps; ++i)
      value += each[i];
  }
  return value;
}

/// Calls `body(column, x)` for this thread's packs of a row. What was read once is read again from the first-level
/// cache.
template <int N, int Warps, class T, class Body>
__device__ __forceinline__ void over_row(const T* row, int width, Body body) {
  for (int column = threadIdx.x * N; column < width; column += Warps * 32 * N) {
    float x[N];
    load<N>(row + column, x);
    body(column, x);
  }
}

template <int N, int Warps, class Out, class In>
__global__ void rms_norm_rows(int rows, int width, rows_of<const In> x, const float* weight, float epsilon,
                              rows_of<Out> out) {
  let_next_kernel_begin();
  await_kernels_before();
  const int row = blockIdx.x * blockDim.y + threadIdx.y;
  if (row >= rows) // a whole warp or block
    return;
  const In* const from = x[row];
  Out* const to = out[row];
  float squares = 0.0F;
  over_row<N, Warps>(from, width, [&](int, const float(&value)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i)
      squares += value[i] * value[i];
  });
  const float factor = 1.0F / sqrtf(sum_row<Warps>(squares) / static_cast<float>(width) + epsilon);
  over_row<N, Warps>(from, width, [&](int column, float(&value)[N]) {
    float scale[N];
    load<N>(weight + column, scale);
#pragma unroll
    for (int i = 0; i < N; ++i)
      value[i] *= factor * scale[i];
    store<N>(to + column, value);
  });
}

template <int N, int Warps, class Out, class In>
__global__ void layer_norm_rows(int rows, int width, rows_of<const In> x, const float* weight, const float* bias,
                                float epsilon, rows_of<Out> out) {
  const int row = blockIdx.x * blockDim.y + threadIdx.y;
  if (row >= rows)
    return;
  const In* const from = x[row];
  Out* const to = out[row];
  float total = 0.0F;
  over_row<N, Warps>(from, width, [&](int, const float(&value)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i)
      total += value[i];
  });
  const float mean = sum_row<Warps>(total) / static_cast<float>(width);
  float squares = 0.0F;
  over_row<N, Warps>(from, width, [&](int, const float(&value)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i)
      squares += (value[i] - mean) * (value[i] - mean);
  });
  const float factor = 1.0F / sqrtf(sum_row<Warps>(squares) / static_cast<float>(width) + epsilon);
  over_row<N, Warps>(from, width, [&](int column, float(&value)[N]) {
    float scale[N];
    float shift[N];
    load<N>(weight + column, scale);
    load<N>(bias + column, shift);
#pragma unroll
    for (int i = 0; i < N; ++i)
      value[i] = (value[i] - mean) * factor * scale[i] + shift[i];
    store<N>(to + column, value);
  });
}

/// Calls `body(packs, warps, out, in)` with constants and types as they fit the rows.
template <class Body, class... Vectors>
cudaError_t with_rows(const tensor_view& x, const tensor_view& out, const Body& body, const Vectors&... vectors) {
  if (count_rows(x) == 0)
    return cudaSuccess;
  return with_type(out.element(), [&](auto out_kind) {
    return with_type(x.element(), [&](auto in_kind) {
      using to = typename decltype(out_kind)::type;
      using from = typename decltype(in_kind)::type;
      return with_packs<to, from>(
          [&](auto packed) {
            if (width_of(x) / packed() <= warp_packs)
              return body(packed, std::integral_constant<int, 1>{}, out_kind, in_kind);
            return body(packed, std::integral_constant<int, block_warps>{}, out_kind, in_kind);
          },
          x, out, tensor_view{vectors.data(), element_kind::f32, device_kind::cuda, {1, x.shape(x.rank() - 1)}}...);
    });
  });
}

dim3 threads_of(int warps) {
  return warps == 1 ? dim3{32, block_warps} : dim3{32U * block_warps, 1};
}

} // namespace

cudaError_t rms_norm(cudaStream_t on, const tensor_view& x, const tensor_view& weight, float epsilon,
                     const tensor_view& out) {
  return with_rows(
      x, out,
      [&](auto packed, auto warps, auto out_kind, auto in_kind) {
        const dim3 threads = threads_of(warps());
        using to = typename decltype(out_kind)::type;
        using from = typename decltype(in_kind)::type;
        return launch_early(on, static_cast<unsigned>(ceil_div(count_rows(x), threads.y)), threads, 0,
                            rms_norm_rows<packed(), warps(), to, from>, count_rows(x), width_of(x),
                            rows_in<const from>(x), static_cast<const float*>(weight.f32()), epsilon, rows_in<to>(out));
      },
      weight);
}

cudaError_t layer_norm(cudaStream_t on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                       float epsilon, const tensor_view& out) {
  return with_rows(
      x, out,
      [&](auto packed, auto warps, auto out_kind, auto in_kind) {
        const dim3 threads = threads_of(warps());
        layer_norm_rows<packed(), warps()><<<ceil_div(count_rows(x), threads.y), threads, 0, on>>>(
            count_rows(x), width_of(x), rows_in<const typename decltype(in_kind)::type>(x), weight.f32(), bias.f32(),
            epsilon, rows_in<typename decltype(out_kind)::type>(out));
        return cudaSuccess;
      },
      weight, bias);
}

} // namespace troupe::gpu::cuda
