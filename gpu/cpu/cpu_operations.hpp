#pragma once

#include <memory>

#include "gpu/operations.hpp"

namespace troupe::gpu::cpu {

/// The operations on the calling thread: oneDNN for matrix products of many rows, own loops for the rest. The oracle of
/// every other implementation.
/// `captures`: streams claim to gain by capture, which here they do not: for those who test what is captured.
std::shared_ptr<const operations> make_operations(bool captures = false);

} // namespace troupe::gpu::cpu
