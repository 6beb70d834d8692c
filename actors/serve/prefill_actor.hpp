#pragma once

#include <memory>
#include <optional>

#include <caf/all.hpp>

#include "actors/rank_actor.hpp"
#include "actors/serve/admission_board.hpp"
#include "protocols/serve/prefill_machine.hpp"

namespace troupe::actors {

/// A rank of a prefill cell: carries out what its member machine decides and, on the leader, what the leader machine
/// decides.
/// Contract: A4, B15, I12, I16.
class prefill_actor : public rank_actor {
public:
  prefill_actor(caf::actor_config& config, const rank_context& rank, protocols::cell_id cell, caf::actor executor,
                admission_board& board);

  caf::behavior make_behavior() override;
  const char* name() const override { return "prefill"; }

private:
  void perform(protocols::prefill_leader_machine::effects what);
  void perform(protocols::prefill_member_machine::effects what);
  void write_blocks(const protocols::prefill_member_machine::write_blocks& write);
  caf::message_handler leader_handlers();
  void report_shipped(protocols::request_id request);

  const protocols::cell_plan& cell_;
  std::uint32_t place_;
  caf::actor executor_;
  admission_board& board_;
  gpu::models::kv_layout layout_;
  protocols::prefill_member_machine member_;
  std::optional<protocols::prefill_leader_machine> leader_;
  /// What keys and values that are to be sent stand behind, by their room; until the request's release.
  std::map<protocols::room_id, std::pair<protocols::request_id, std::shared_ptr<const fabric::device_event>>> ready_;
  std::map<protocols::request_id, protocols::time_point> shipping_since_; ///< leader, for timings
};

} // namespace troupe::actors
