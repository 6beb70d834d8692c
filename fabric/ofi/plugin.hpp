#pragma once

#include <memory>

#include "fabric/transfers/transfer.hpp"

/// What libtroupe_ofi.so offers: the transfer engine over libfabric.
namespace troupe::fabric::ofi {

inline constexpr const char* make_engine_symbol = "troupe_make_ofi_engine";
using make_engine_function = void(fabric_options options, protocols::result<std::unique_ptr<transfer_engine>>& made);

} // namespace troupe::fabric::ofi
