#pragma once

#include <memory>

#include "gpu/operations.hpp"

namespace troupe::gpu::cpu {

/// The operations on the calling thread: oneDNN for matrix products of many rows, own loops for the rest. The oracle of
/// every other implementation.
std::shared_ptr<const operations> make_operations();

} // namespace troupe::gpu::cpu
