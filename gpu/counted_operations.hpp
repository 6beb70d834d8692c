#pragma once

#include <memory>

#include "gpu/operations.hpp"

namespace troupe::gpu {

/// The same operations, each of which counts as progress of its thread once it has returned (`base::flight`): a
/// watchdog that saw none during a long forward would take a rank that computes for one that is wedged. Contract: C4.
std::shared_ptr<const operations> count_operations(std::shared_ptr<const operations> with);

} // namespace troupe::gpu
