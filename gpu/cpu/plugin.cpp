#include "runtime/base/plugin.hpp"

#include "gpu/backend.hpp"
#include "gpu/cpu/cpu_operations.hpp"
#include "gpu/cpu/numerics.hpp"
#include "gpu/cpu/threads.hpp"

TROUPE_PLUGIN

using namespace troupe;

extern "C" __attribute__((visibility("default"))) void
troupe_make_operations(const gpu::device_request& wanted,
                       protocols::result<std::shared_ptr<const gpu::operations>>& made) {
  if (wanted.number != 0) {
    made = protocols::fail(protocols::fault::config_invalid,
                           "device cpu:" + std::to_string(wanted.number) + "; valid here: cpu");
    return;
  }
  gpu::cpu::set_threads(wanted.threads);
  made = gpu::cpu::make_operations();
}

extern "C" __attribute__((visibility("default"))) void troupe_describe_numerics(const gpu::device_request&,
                                                                                std::string& line) {
  line = gpu::cpu::describe_numerics();
}
