#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

namespace troupe::bench {

/// Numbers around `mean`, `spread` to either side, as bf16 or as f32: of `seed` and place alone.
void fill_bf16(cudaStream_t on, void* to, std::size_t count, float mean, float spread, std::uint32_t seed);
void fill_f32(cudaStream_t on, void* to, std::size_t count, float mean, float spread, std::uint32_t seed);

} // namespace troupe::bench
