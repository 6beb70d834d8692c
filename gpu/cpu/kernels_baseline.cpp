#include "gpu/cpu/kernels.hpp"

#define TROUPE_KERNELS baseline
#define TROUPE_KERNELS_NAME "baseline"
#define TROUPE_LANES 4
#include "gpu/cpu/kernels.inl"

namespace troupe::gpu::cpu {

const kernels& best_kernels() noexcept {
#if defined(__x86_64__) && !defined(__clang__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
    return detail::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return detail::avx2;
#endif
  return detail::baseline;
}

} // namespace troupe::gpu::cpu
