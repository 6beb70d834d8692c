#include "gpu/cuda/kernels.hpp"
#include "gpu/cuda/pack.hpp"

namespace troupe::gpu::cuda {

namespace {

struct identity {
  __device__ float operator()(float x) const { return x; }
};
struct plus {
  __device__ float operator()(float a, float b) const { return a + b; }
};
/// x / 2 (1 + tanh u) with u = sqrt(2 / pi) (x + 0.044715 x^3), which is x / (1 + e^(-2u)).
struct gelu_by_tanh {
  __device__ float operator()(float x) const { return x / (1.0F + expf((x + x * x * x * 0.044715F) * -1.5957691216F)); }
};
struct gelu_by_erf {
  __device__ float operator()(float x) const { return x * 0.5F * (1.0F + erff(x * 0.70710678F)); }
};
struct silu_times {
  __device__ float operator()(float gate, float up) const { return gate / (1.0F + expf(-gate)) * up; }
};

/// out = f(a) for each element; a may be out.
template <int N, class F, class Out, class A>
__global__ void map_rows(int rows, int width, F f, rows_of<Out> out, rows_of<const A> a) {
  const int row = blockIdx.x * blockDim.y + threadIdx.y;
  const int column = (blockIdx.y * blockDim.x + threadIdx.x) * N;
  if (row >= rows || column >= width)
    return;
  float x[N];
  load<N>(a[row] + column, x);
#pragma unroll
  for (int i = 0; i < N; ++i)
    x[i] = f(x[i]);
  store<N>(out[row] + column, x);
}

/// out = f(a, b) for each element; a may be out.
template <int N, class F, class Out, class A, class B>
__global__ void map_rows(int rows, int width, F f, rows_of<Out> out, rows_of<const A> a, rows_of<const B> b) {
  const int row = blockIdx.x * blockDim.y + threadIdx.y;
  const int column = (blockIdx.y * blockDim.x + threadIdx.x) * N;
  if (row >= rows || column >= width)
    return;
  float x[N];
  float y[N];
  load<N>(a[row] + column, x);
  load<N>(b[row] + column, y);
#pragma unroll
  for (int i = 0; i < N; ++i)
    x[i] = f(x[i], y[i]);
  store<N>(out[row] + column, x);
}

template <class Out, class... In, class F, class... Views>
cudaError_t map(cudaStream_t on, F f, const tensor_view& out, const Views&... in) {
  const int rows = count_rows(out);
  const int width = width_of(out);
  if (rows == 0 || width == 0)
    return cudaSuccess;
  return with_packs<Out, In...>(
      [&](auto packed) {
        constexpr int n = decltype(packed)::value;
        const row_grid grid{rows, width / n};
        map_rows<n><<<grid.blocks, grid.threads, 0, on>>>(rows, width, f, rows_in<Out>(out), rows_in<const In>(in)...);
        return cudaSuccess;
      },
      out, in...);
}

/// In place, of one kind.
template <class F>
cudaError_t map_in_place(cudaStream_t on, F f, const tensor_view& rows) {
  return with_type(rows.element(), [&](auto kind) {
    using type = typename decltype(kind)::type;
    return map<type, type>(on, f, rows, rows);
  });
}

} // namespace

cudaError_t copy_rows(cudaStream_t on, const tensor_view& from, const tensor_view& to) {
  return with_type(to.element(), [&](auto out) {
    return with_type(from.element(), [&](auto in) {
      return map<typename decltype(out)::type, typename decltype(in)::type>(on, identity{}, to, from);
    });
  });
}

cudaError_t add_rows(cudaStream_t on, const tensor_view& to, const tensor_view& what) {
  return with_type(to.element(), [&](auto out) {
    return with_type(what.element(), [&](auto in) {
      using sum = typename decltype(out)::type;
      return map<sum, sum, typename decltype(in)::type>(on, plus{}, to, to, what);
    });
  });
}

cudaError_t gelu_tanh(cudaStream_t on, const tensor_view& in_place) {
  return map_in_place(on, gelu_by_tanh{}, in_place);
}
cudaError_t gelu_erf(cudaStream_t on, const tensor_view& in_place) {
  return map_in_place(on, gelu_by_erf{}, in_place);
}

cudaError_t silu_mul(cudaStream_t on, const tensor_view& gate, const tensor_view& up, const tensor_view& out) {
  TROUPE_ASSERT("silu", gate.element() == out.element());
  return with_type(out.element(), [&](auto kind) {
    using type = typename decltype(kind)::type;
    return map<type, type, type>(on, silu_times{}, out, gate, up);
  });
}

} // namespace troupe::gpu::cuda
