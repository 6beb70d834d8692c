#pragma once

#include <map>
#include <memory>
#include <optional>

#include "actors/serve/cell_actor.hpp"
#include "protocols/serve/encode_machine.hpp"

namespace troupe::actors {

/// A rank of an encode cell: carries out what its member machine decides and, on the leader, what `encode_machine`
/// decides.
/// Contract: I1, I4, I12.
class encode_actor : public cell_actor {
public:
  encode_actor(caf::actor_config& config, const rank_context& rank, protocols::cell_id cell, caf::actor executor);

  const char* name() const override { return "encode"; }

private:
  handlers member_handlers() override;
  handlers leader_handlers() override;
  void on_tick() override;

  void perform(protocols::encode_machine::effects what);
  void write_rows(const protocols::encode_machine::write_rows& write);

  /// A picture's rows on their way.
  struct shipment {
    protocols::request_id request;
    std::shared_ptr<const fabric::device_event> ready;
    std::optional<protocols::time_point> computed; ///< for timings
    std::optional<protocols::time_point> delivered;
  };
  void report_kv_sent(std::map<protocols::room_id, shipment>::iterator what);

  std::optional<protocols::encode_machine> machine_;       ///< leader only
  std::optional<protocols::encode_member_machine> member_; ///< of every other rank
  std::map<protocols::room_id, shipment> sending_;
};

} // namespace troupe::actors
