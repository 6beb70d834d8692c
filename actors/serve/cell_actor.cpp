#include "actors/serve/cell_actor.hpp"

#include "actors/periods.hpp"
#include "actors/serve/serve_routing.hpp"

namespace troupe::actors {

using namespace protocols;

cell_actor::cell_actor(caf::actor_config& config, const rank_context& rank, actor_kind kind, cell_id cell,
                       caf::actor executor)
    : role_actor(config, rank, std::string{protocols::name(rank.plan.cell(cell).role)}, kind),
      cell_(rank.plan.cell(cell)), place_(*cell_.place_of(rank.self)), executor_(std::move(executor)) {}

rank_actor::handlers cell_actor::make_handlers() {
  delayed_send(this, tick_period, tick_atom::value);
  const auto clock = on([this](tick_atom) {
    on_tick();
    delayed_send(this, tick_period, tick_atom::value);
  });
  return clock.or_else(member_handlers()).or_else(leads() ? leader_handlers() : handlers{});
}

void cell_actor::send_out(send_message message) {
  deliver(rank_, cell_.role, std::move(message), epoch());
}

void cell_actor::report(request_id request, phase part, time_point began, time_point ended) {
  send_out(timing_of(rank_, request, part, began, ended));
}

} // namespace troupe::actors
