#include <cuda_bf16.h>

#include "tools/bench/fill_random.hpp"

namespace troupe::bench {

namespace {

template <class T>
__global__ void fill(T* to, std::size_t count, float mean, float spread, std::uint32_t seed) {
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t at = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; at < count; at += step) {
    std::uint64_t bits = at * 0x9e37'79b9'7f4a'7c15U + seed * 0xd1b5'4a32'd192'ed03U;
    bits = (bits ^ bits >> 30) * 0xbf58'476d'1ce4'e5b9U;
    bits = (bits ^ bits >> 27) * 0x94d0'49bb'1331'11ebU;
    const float drawn = static_cast<float>(bits >> 40) / 8388608.0F - 1.0F;
    to[at] = static_cast<T>(mean + spread * drawn);
  }
}

} // namespace

void fill_bf16(cudaStream_t on, void* to, std::size_t count, float mean, float spread, std::uint32_t seed) {
  fill<<<2048, 256, 0, on>>>(static_cast<__nv_bfloat16*>(to), count, mean, spread, seed);
}
void fill_f32(cudaStream_t on, void* to, std::size_t count, float mean, float spread, std::uint32_t seed) {
  fill<<<2048, 256, 0, on>>>(static_cast<float*>(to), count, mean, spread, seed);
}

} // namespace troupe::bench
