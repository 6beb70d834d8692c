#pragma once

#include "protocols/machine_watch.hpp"

/// The states of the machines under metrics/.
namespace troupe::protocols {

extern const state_table view_machine_table;

} // namespace troupe::protocols
