#include "gpu/cpu/kernels.hpp"

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,fma")
#define TROUPE_KERNELS avx512
#define TROUPE_KERNELS_NAME "avx512"
#define TROUPE_LANES 16
#include "gpu/cpu/kernels.inl"
#pragma GCC pop_options
#endif
