#pragma once

#include <memory>
#include <optional>

#include <caf/all.hpp>

#include "actors/rank_actor.hpp"
#include "actors/serve/admission_board.hpp"
#include "protocols/serve/decode_machine.hpp"

namespace troupe::actors {

/// A rank of a decode cell: carries out what its member machine decides and, on the leader, what the leader machine
/// decides. Tokens do not pass here: they go from the executor to the front on a lane of their own.
/// Contract: B15, E19, F14.
class decode_actor : public rank_actor {
public:
  decode_actor(caf::actor_config& config, const rank_context& rank, protocols::cell_id cell, caf::actor executor,
               admission_board& board);

  caf::behavior make_behavior() override;
  const char* name() const override { return "decode"; }

private:
  void perform(protocols::decode_leader_machine::effects what);
  void perform(protocols::decode_member_machine::effects what);
  /// Over a lane that reaches no device's memory: what `writer` is granted is to go on to the device (E17).
  void expect_landing(protocols::rank_id writer, const protocols::grant_blocks& grant);
  caf::message_handler leader_handlers();

  const protocols::cell_plan& cell_;
  caf::actor executor_;
  admission_board& board_;
  protocols::decode_member_machine member_;
  std::optional<protocols::decode_leader_machine> leader_;
};

} // namespace troupe::actors
