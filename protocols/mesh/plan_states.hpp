#pragma once

#include "protocols/machine_watch.hpp"

/// The states of `collective_plan_machine`.
namespace troupe::protocols {

extern const state_table collective_plan_table;

} // namespace troupe::protocols
