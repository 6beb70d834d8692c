#pragma once

#include <type_traits>

#include "gpu/cuda/pack.hpp"

/// Heads of bf16 that are normed and turned on their way, a warp a head. Included by .cu files alone.
namespace troupe::gpu::cuda {

/// What a lane has of a head: two neighbours of the lower half and those that they turn with. A half is 64 at most.
struct head_part {
  float low[2] = {};
  float high[2] = {};

  static __device__ __forceinline__ int column() { return threadIdx.x % 32 * 2; }

  template <class T>
  __device__ __forceinline__ void read(const T* head, int half) {
    if (column() >= half)
      return;
    const auto first = __ldcg(reinterpret_cast<const raw_pair<T>*>(head + column()));
    const auto second = __ldcg(reinterpret_cast<const raw_pair<T>*>(head + half + column()));
    load<2>(reinterpret_cast<const T*>(&first), low);
    load<2>(reinterpret_cast<const T*>(&second), high);
  }
  __device__ __forceinline__ void write(bf16* head, int half) const {
    if (column() >= half)
      return;
    store<2>(head + column(), low);
    store<2>(head + half + column(), high);
  }
  /// By the whole warp, rounded as the operation for it does.
  __device__ __forceinline__ void norm(const head_part& scale, float epsilon, int width) {
    const float squares = sum_lanes(low[0] * low[0] + low[1] * low[1] + high[0] * high[0] + high[1] * high[1]);
    const float factor = 1.0F / sqrtf(squares / static_cast<float>(width) + epsilon);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      low[i] = static_cast<float>(static_cast<bf16>(low[i] * (factor * scale.low[i])));
      high[i] = static_cast<float>(static_cast<bf16>(high[i] * (factor * scale.high[i])));
    }
  }
  __device__ __forceinline__ void turn(const float (&cos)[2], const float (&sin)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float turned = low[i] * cos[i] - high[i] * sin[i];
      high[i] = high[i] * cos[i] + low[i] * sin[i];
      low[i] = turned;
    }
  }

private:
  template <class T>
  using raw_pair = std::conditional_t<sizeof(T) == 2, unsigned, float2>;
};

} // namespace troupe::gpu::cuda
