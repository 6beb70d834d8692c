#pragma once

#include "protocols/machine_watch.hpp"

/// The states of the machines under serve/.
namespace troupe::protocols {

extern const state_table session_table;
extern const state_table ingest_table;
extern const state_table ingest_reader_table;
extern const state_table front_request_table;
extern const state_table front_cell_table;
extern const state_table encode_room_table;
extern const state_table request_ledger_table;
extern const state_table prefill_leader_table;
extern const state_table prefill_rows_table;
extern const state_table prefill_kv_table;
extern const state_table decode_leader_table;
extern const state_table decode_member_table;
extern const state_table step_table;

} // namespace troupe::protocols
