#include <array>

#include "protocols/cluster/cluster_states.hpp"
#include "protocols/door/door_states.hpp"
#include "protocols/machine_watch.hpp"
#include "protocols/mesh/plan_states.hpp"
#include "protocols/metrics/metrics_states.hpp"
#include "protocols/serve/serve_states.hpp"
#include "protocols/transfers/transfer_states.hpp"
#include "protocols/wire/link_states.hpp"

namespace troupe::protocols {

std::span<const state_table* const> state_tables() {
  static const std::array tables{
      &life_table,           &life_rank_table,    &life_admission_table,  &rank_life_table,
      &parity_table,         &first_cause_table,  &restart_table,         &liveness_table,
      &edge_table,           &epoch_fence_table,  &collective_plan_table, &link_machine_table,
      &slot_pool_table,      &block_pool_table,   &lent_rooms_table,      &held_grants_table,
      &way_machine_table,    &session_table,      &ingest_table,          &ingest_reader_table,
      &front_request_table,  &front_cell_table,   &encode_room_table,     &request_ledger_table,
      &prefill_leader_table, &prefill_rows_table, &prefill_kv_table,      &decode_leader_table,
      &decode_member_table,  &step_table,         &http_session_table,    &stop_text_table,
      &view_machine_table};
  return tables;
}

} // namespace troupe::protocols
