#pragma once

#include <functional>
#include <memory>

#include "gpu/operations.hpp"

namespace troupe::gpu {

/// Told after each operation: its name and the matrix of a product, or else what is written. On a device the operation
/// has been put on the stream and has not happened yet.
using operation_observer = std::function<void(stream& on, const char* name, const tensor_view& what)>;

/// The same operations, each of which is told of once its call has returned.
/// Threads: as those of `with`; the observer is called by the thread that calls.
std::shared_ptr<const operations> observe_operations(std::shared_ptr<const operations> with, operation_observer after);

} // namespace troupe::gpu
