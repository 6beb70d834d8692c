#pragma once

#include <memory>

#include "fabric/transfers/transfer.hpp"

namespace troupe::fabric {

/// The same engine, with every write and its end noted in the flight recorder: posted, delivered (with the same
/// cookie), arrived. Contract: C8.
std::unique_ptr<transfer_engine> record_transfers(std::unique_ptr<transfer_engine> with);

} // namespace troupe::fabric
