#pragma once

#include <memory>

#include "gpu/backend.hpp"
#include "gpu/cuda/device.hpp"

namespace troupe::gpu::cuda {

/// Sums and gathers of up to `limits::peer_part_bytes_max` by kernels of our own, between GPUs of one host that write
/// to each other's memory; larger ones are `larger`'s, which has the same members. Below that a library's call is ten
/// times the way of the bytes, and a decode step makes two a layer.
/// Where one member cannot reach another's memory all of them leave everything to `larger`, and `form` says why.
///
/// A GPU waits for its peers no longer than the call's deadline and a margin, also when it is launched again and again
/// as captured work; then it says in host memory that nobody waits any longer, which fails the stream.
///
/// Contract: B20, B27, C18. Errors: timeout, executor_failed.
protocols::result<std::unique_ptr<device_collectives>> join_peers(const device& on, const group_member& seat,
                                                                  std::unique_ptr<device_collectives> larger);

} // namespace troupe::gpu::cuda
