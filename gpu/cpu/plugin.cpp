#include "runtime/base/plugin.hpp"

#include "gpu/backend.hpp"
#include "gpu/cpu/cpu_operations.hpp"
#include "gpu/cpu/threads.hpp"

TROUPE_PLUGIN

extern "C" __attribute__((visibility("default"))) void
troupe_make_operations(unsigned threads, std::shared_ptr<const troupe::gpu::operations>& made) {
  troupe::gpu::cpu::set_threads(threads);
  made = troupe::gpu::cpu::make_operations();
}
