#include "gpu/cuda/kernels.hpp"
#include "gpu/cuda/pack.hpp"

// Products of few rows, as a decode step has them: the weights are read once, and that is all the time there is. A warp
// has one row of the weight and keeps several wide loads of it on their way.

namespace troupe::gpu::cuda {

namespace {

constexpr int warps = 4;
constexpr int threads = 32 * warps;
constexpr int unrolled = 8;

/// What is read once and by nobody else: it need not stay in a cache.
template <int N, class T>
__device__ __forceinline__ void load_once(const T* from, pack<T, N>& to) {
  static_assert(sizeof(to) == 16);
  const uint4 raw = __ldcs(reinterpret_cast<const uint4*>(from));
  to = *reinterpret_cast<const pack<T, N>*>(&raw);
}

template <int M, int N, class Out, class T>
__global__ void __launch_bounds__(threads)
    multiply(rows_of<const T> x, rows_of<const T> weight, int n, int k, const Out* bias, rows_of<Out> out) {
  const int row = blockIdx.x * warps + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (row >= n)
    return;
  const T* const from = weight[row];
  float sum[M] = {};
  const auto add = [&](int column, const pack<T, N>& raw) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
      float left[N];
      load<N>(x[m] + column, left);
#pragma unroll
      for (int i = 0; i < N; ++i)
        sum[m] += left[i] * static_cast<float>(raw.of[i]);
    }
  };
  constexpr int step = 32 * N;
  int column = lane * N;
  for (; column + (unrolled - 1) * step < k; column += unrolled * step) {
    pack<T, N> raw[unrolled];
#pragma unroll
    for (int u = 0; u < unrolled; ++u)
      load_once<N>(from + column + u * step, raw[u]);
#pragma unroll
    for (int u = 0; u < unrolled; ++u)
      add(column + u * step, raw[u]);
  }
  for (; column < k; column += step) {
    pack<T, N> raw;
    load_once<N>(from + column, raw);
    add(column, raw);
  }
#pragma unroll
  for (int m = 0; m < M; ++m) {
    const float whole = sum_lanes(sum[m]);
    if (lane == 0)
      out[m][row] = static_cast<Out>(whole + (bias ? static_cast<float>(bias[row]) : 0.0F));
  }
}

template <int M>
cudaError_t launch(cudaStream_t on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                   const tensor_view& out) {
  return with_type(x.element(), [&](auto in_kind) {
    return with_type(out.element(), [&](auto out_kind) {
      using in = typename decltype(in_kind)::type;
      using to = typename decltype(out_kind)::type;
      const int n = static_cast<int>(weight.shape(0));
      multiply<M, 16 / sizeof(in)>
          <<<ceil_div(n, warps), threads, 0, on>>>(rows_in<const in>(x), rows_in<const in>(weight), n, width_of(weight),
                                                   static_cast<const to*>(bias.data()), rows_in<to>(out));
      return cudaSuccess;
    });
  });
}

} // namespace

bool is_few_rows(const tensor_view& x, const tensor_view& weight) {
  return x.shape(0) <= 4 && packs_fit(static_cast<int>(16 / bytes_of(x.element())), x, weight);
}

cudaError_t multiply_few_rows(cudaStream_t on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                              const tensor_view& out) {
  switch (x.shape(0)) {
  case 1:
    return launch<1>(on, x, weight, bias, out);
  case 2:
    return launch<2>(on, x, weight, bias, out);
  case 3:
    return launch<3>(on, x, weight, bias, out);
  default:
    return launch<4>(on, x, weight, bias, out);
  }
}

} // namespace troupe::gpu::cuda
