#pragma once

#include <memory>

#include "gpu/operations.hpp"
#include "protocols/fault.hpp"

namespace troupe::gpu {

/// The operations of `device` ("cpu"), from its plug-in. `threads`: of one matrix product.
/// Errors: config_invalid, no such plug-in or one of another build.
protocols::result<std::shared_ptr<const operations>> open_operations(const std::string& device, unsigned threads);

// What every plug-in of a device offers.
inline constexpr const char* make_operations_symbol = "troupe_make_operations";
using make_operations_function = void(unsigned threads, std::shared_ptr<const operations>& made);

} // namespace troupe::gpu
