#include "runtime/base/plugin.hpp"

#include "gpu/backend.hpp"
#include "gpu/cuda/cuda_operations.hpp"
#include "gpu/cuda/device_faults.hpp"
#include "gpu/cuda/ipc_memory.hpp"
#include "gpu/cuda/nccl_collectives.hpp"
#include "gpu/cuda/numerics.hpp"
#include "gpu/cuda/peer_collectives.hpp"

TROUPE_PLUGIN

using namespace troupe;

extern "C" __attribute__((visibility("default"))) void
troupe_make_operations(const gpu::device_request& wanted,
                       protocols::result<std::shared_ptr<const gpu::operations>>& made) {
  made = gpu::cuda::make_operations(wanted.number);
}

extern "C" __attribute__((visibility("default"))) void troupe_describe_numerics(const gpu::device_request& wanted,
                                                                                std::string& line) {
  if (const auto opened = gpu::cuda::open_device(wanted.number))
    line = gpu::cuda::describe_numerics(*opened);
}

extern "C" __attribute__((visibility("default"))) unsigned troupe_count_devices() {
  return gpu::cuda::count_devices();
}

extern "C" __attribute__((visibility("default"))) void
troupe_make_device_memory(const gpu::device_request& wanted,
                          protocols::result<std::shared_ptr<fabric::device_memory>>& made) {
  made = gpu::cuda::make_ipc_memory(wanted.number);
}

extern "C" __attribute__((visibility("default"))) void
troupe_join_collectives(const gpu::device_request& wanted, const gpu::group_member& seat,
                        protocols::result<std::unique_ptr<gpu::device_collectives>>& made) {
  made = gpu::cuda::open_device(wanted.number).and_then([&](const gpu::cuda::device& on) {
    return gpu::cuda::join_nccl(on, seat).and_then(
        [&](auto library) { return gpu::cuda::join_peers(on, seat, std::move(library)); });
  });
}

extern "C" __attribute__((visibility("default"))) void troupe_strike_device(const gpu::device_request& wanted,
                                                                            const gpu::device_fault& what,
                                                                            protocols::result<void>& struck) {
  struck = gpu::cuda::open_device(wanted.number).and_then([&](const gpu::cuda::device& on) {
    return gpu::cuda::strike(on, what);
  });
}
