#include "runtime/base/plugin.hpp"

#include "gpu/backend.hpp"
#include "gpu/cuda/cuda_operations.hpp"

TROUPE_PLUGIN

using namespace troupe;

extern "C" __attribute__((visibility("default"))) void
troupe_make_operations(const gpu::device_request& wanted,
                       protocols::result<std::shared_ptr<const gpu::operations>>& made) {
  made = gpu::cuda::make_operations(wanted.number);
}
