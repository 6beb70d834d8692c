#pragma once

#include <cuda_runtime.h>

/// Weights of tokens as whole numbers of 2^-44 of the largest, so that their sums do not depend on the order in which
/// they are made, and their sizes, in which they are counted. Included by .cu files alone.
namespace troupe::gpu::cuda {

using u64 = unsigned long long;

inline constexpr int weight_bits = 44; // with at most 2^20 tokens a sum has 64 bits
inline constexpr int size_bits = 6;    // of a weight below its leading one: a size is 1.6 % wide
inline constexpr int sizes = (weight_bits + 1) << size_bits;

/// What makes a logit a weight.
struct weighing {
  double largest = 0.0;
  double temperature = 1.0;

  __device__ __forceinline__ u64 of(float logit) const {
    const double weight = exp((logit - largest) / temperature);
    return weight > 0.0 ? static_cast<u64>(weight * static_cast<double>(u64{1} << weight_bits)) : 0; // not so for NaN
  }
  /// The logit of a weight, within rounding.
  __device__ __forceinline__ double logit_of(u64 weight) const {
    return largest + temperature * (log(static_cast<double>(weight)) - weight_bits * 0.6931471805599453);
  }
};
__device__ __forceinline__ int size_of(u64 weight) {
  const int leading = 63 - __clzll(static_cast<long long>(weight));
  const u64 below = leading >= size_bits ? weight >> (leading - size_bits) : weight << (size_bits - leading);
  return leading << size_bits | static_cast<int>(below & ((1 << size_bits) - 1));
}
/// The lowest weight of a size.
__device__ __forceinline__ u64 lowest_of_size(int size) {
  const int leading = size >> size_bits;
  const u64 digits = (size & ((1 << size_bits) - 1)) | 1 << size_bits;
  return leading >= size_bits ? digits << (leading - size_bits)
                              : (digits + (u64{1} << (size_bits - leading)) - 1) >> (size_bits - leading);
}

} // namespace troupe::gpu::cuda
