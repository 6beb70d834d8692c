#pragma once

#include <memory>

#include "gpu/operations.hpp"

namespace troupe::gpu::cuda {

/// The operations on one GPU: cuBLASLt for matrix products, own kernels for the rest.
/// Errors: config_invalid, see open_device.
protocols::result<std::shared_ptr<const operations>> make_operations(unsigned device_number);

} // namespace troupe::gpu::cuda
