#pragma once

#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "actors/serve/cell_actor.hpp"
#include "protocols/serve/prefill_machine.hpp"

namespace troupe::actors {

/// A rank of a prefill cell: carries out what its member machine decides and, on the leader, what the leader machine
/// decides.
/// Contract: A4, B15, I12, I16.
class prefill_actor : public cell_actor {
public:
  prefill_actor(caf::actor_config& config, const rank_context& rank, protocols::cell_id cell, caf::actor executor,
                admission_table& board);

  const char* name() const override { return "prefill"; }

private:
  handlers member_handlers() override;
  handlers leader_handlers() override;
  void on_tick() override;

  void perform(protocols::prefill_leader_machine::effects what);
  void perform(protocols::prefill_member_machine::effects what);
  void write_blocks(const protocols::prefill_member_machine::write_blocks& write);
  void report_kv_sent(protocols::request_id request);

  admission_table& board_;
  gpu::models::kv_layout layout_;
  protocols::prefill_member_machine member_;
  std::optional<protocols::prefill_leader_machine> leader_;
  /// What keys and values that are to be sent stand behind, by their room; until the request's release.
  std::map<protocols::room_id, std::pair<protocols::request_id, std::shared_ptr<const fabric::device_event>>> ready_;
  std::map<protocols::request_id, protocols::time_point> sending_since_; ///< leader, for timings
};

} // namespace troupe::actors
