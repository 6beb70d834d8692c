#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace troupe::bench {

/// Reads every byte of device memory once and keeps nothing: what a kernel that only reads can reach at most.
void read_all(cudaStream_t on, const void* from, std::size_t bytes, float* sink, int multiprocessors);

} // namespace troupe::bench
