#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "fabric/transfers/transfer.hpp"

namespace troupe::fabric {

/// The same engine, with every write and its end noted in the flight recorder: posted, delivered (with the same
/// cookie), arrived. `on_taken`: the engine has taken a write of so many bytes, on the thread that posts it; must not
/// block. Contract: C8.
std::unique_ptr<transfer_engine> record_transfers(
    std::unique_ptr<transfer_engine> with,
    std::function<void(protocols::rank_id to, std::uint64_t completion_data, std::uint64_t bytes)> on_taken);

} // namespace troupe::fabric
