#include "gpu/cpu/kernels.hpp"

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define TROUPE_KERNELS avx2
#define TROUPE_KERNELS_NAME "avx2"
#define TROUPE_LANES 8
#include "gpu/cpu/kernels.inl"
#pragma GCC pop_options
#endif
