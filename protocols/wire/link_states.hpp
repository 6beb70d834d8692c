#pragma once

#include "protocols/machine_watch.hpp"

/// The states of `link_machine`.
namespace troupe::protocols {

extern const state_table link_machine_table;

} // namespace troupe::protocols
