#pragma once

#include <optional>

#include "actors/serve/cell_actor.hpp"
#include "protocols/serve/decode_machine.hpp"

namespace troupe::actors {

/// A rank of a decode cell: carries out what its member machine decides and, on the leader, what the leader machine
/// decides. Tokens do not pass here: they go from the executor to the front on a lane of their own.
/// Contract: B15, E19, F14.
class decode_actor : public cell_actor {
public:
  decode_actor(caf::actor_config& config, const rank_context& rank, protocols::cell_id cell, caf::actor executor,
               admission_table& board);

  const char* name() const override { return "decode"; }

private:
  handlers member_handlers() override;
  handlers leader_handlers() override;
  void on_tick() override;

  void perform(protocols::decode_leader_machine::effects what);
  void perform(protocols::decode_member_machine::effects what);
  /// Over a lane that reaches no device's memory: what `writer` is granted is to go on to the device (E17).
  void expect_arrival(protocols::rank_id writer, const protocols::grant_blocks& grant);

  admission_table& board_;
  protocols::decode_member_machine member_;
  std::optional<protocols::decode_leader_machine> leader_;
};

} // namespace troupe::actors
