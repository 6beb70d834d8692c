#pragma once

#include "protocols/machine_watch.hpp"

/// The states of the machines under transfers/.
namespace troupe::protocols {

extern const state_table slot_pool_table;
extern const state_table block_pool_table;
extern const state_table lent_rooms_table;
extern const state_table held_grants_table;
extern const state_table way_machine_table;

} // namespace troupe::protocols
