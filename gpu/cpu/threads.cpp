#include "gpu/cpu/threads.hpp"

#include <omp.h>

#include <atomic>

namespace troupe::gpu::cpu {

namespace {
std::atomic<int> wanted{1};
thread_local int applied = 0;
} // namespace

void set_threads(unsigned count) noexcept {
  wanted.store(count == 0 ? 1 : static_cast<int>(count), std::memory_order_relaxed);
}

void apply_threads() noexcept {
  const int count = wanted.load(std::memory_order_relaxed);
  if (count == applied)
    return;
  omp_set_num_threads(count);
  applied = count;
}

} // namespace troupe::gpu::cpu
