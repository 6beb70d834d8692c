#pragma once

#include "protocols/machine_watch.hpp"

/// The states of the machines under cluster/.
namespace troupe::protocols {

extern const state_table life_table;
extern const state_table life_rank_table;
extern const state_table life_admission_table;
extern const state_table rank_life_table;
extern const state_table parity_table;
extern const state_table first_cause_table;
extern const state_table restart_table;
extern const state_table liveness_table;
extern const state_table edge_table;
extern const state_table epoch_fence_table;

} // namespace troupe::protocols
