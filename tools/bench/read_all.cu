#include "tools/bench/read_all.hpp"

namespace troupe::bench {

namespace {

__global__ void __launch_bounds__(512) sum(const float4* from, std::size_t count, float* sink) {
  constexpr int unrolled = 8;
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  float total = 0.0F;
  for (std::size_t at = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; at < count; at += unrolled * step) {
    float4 x[unrolled];
#pragma unroll
    for (int i = 0; i < unrolled; ++i)
      x[i] = at + i * step < count ? __ldcs(from + at + i * step) : float4{};
#pragma unroll
    for (int i = 0; i < unrolled; ++i)
      total += x[i].x + x[i].y + x[i].z + x[i].w;
  }
  if (total == 1.25e30F) // never: so that nothing is left out
    *sink = total;
}

} // namespace

void read_all(cudaStream_t on, const void* from, std::size_t bytes, float* sink, int multiprocessors) {
  sum<<<multiprocessors * 4, 512, 0, on>>>(static_cast<const float4*>(from), bytes / sizeof(float4), sink);
}

} // namespace troupe::bench
