#pragma once

#include <memory>
#include <string>

#include "gpu/operations.hpp"
#include "protocols/fault.hpp"

namespace troupe::gpu {

/// The operations of `device` ("cpu", "cuda" or "cuda:1"), from its plug-in. `threads`: of one matrix product, cpu
/// only. Errors: config_invalid, no such plug-in, one of another build, no such device or one that it is not built for.
protocols::result<std::shared_ptr<const operations>> open_operations(const std::string& device, unsigned threads);

/// What a plug-in is asked for.
struct device_request {
  unsigned number = 0; ///< among the machine's devices of this kind
  unsigned threads = 1;
};

// What every plug-in of a device offers.
inline constexpr const char* make_operations_symbol = "troupe_make_operations";
using make_operations_function = void(const device_request& wanted,
                                      protocols::result<std::shared_ptr<const operations>>& made);

} // namespace troupe::gpu
