#pragma once

#include <memory>
#include <optional>

#include <caf/all.hpp>

#include "actors/rank_actor.hpp"
#include "protocols/serve/encode_machine.hpp"

namespace troupe::actors {

/// A rank of an encode cell: carries out what `encode_machine` decides (leader), or tells the leader that its copy of
/// the pixels has arrived (member).
/// Contract: I1, I4, I12.
class encode_actor : public rank_actor {
public:
  encode_actor(caf::actor_config& config, const rank_context& rank, protocols::cell_id cell, caf::actor executor);

  caf::behavior make_behavior() override;
  const char* name() const override { return "encode"; }

private:
  void perform(protocols::encode_machine::effects what);
  void write_rows(const protocols::encode_machine::write_rows& write);

  /// A picture's rows on their way.
  struct shipment {
    protocols::request_id request;
    std::shared_ptr<const fabric::device_event> ready;
    std::optional<protocols::time_point> computed; ///< for timings
    std::optional<protocols::time_point> delivered;
  };
  void report_shipped(std::map<protocols::room_id, shipment>::iterator what);

  const protocols::cell_plan& cell_;
  caf::actor executor_;
  std::optional<protocols::encode_machine> machine_; ///< leader only
  std::map<protocols::room_id, shipment> shipping_;
};

} // namespace troupe::actors
