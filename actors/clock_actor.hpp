#pragma once

#include <caf/all.hpp>

#include "actors/envelope.hpp"
#include "actors/rank_actor.hpp"

namespace troupe::actors {

/// Shows that the actor system turns: its clock sends what was put off, and a worker takes it. Every deadline of a role
/// passes through both, and an idle rank has nothing else that would tell.
/// Contract: K13.
class clock_actor final : public rank_actor {
public:
  clock_actor(caf::actor_config& config, const rank_context& rank, protocols::duration every)
      : rank_actor(config, rank, "clock", std::nullopt, watch::ticking), every_(every) {}

  const char* name() const override { return "clock"; }

private:
  handlers make_handlers() override {
    delayed_send(this, every_, tick_atom::value);
    return on([this](tick_atom) { delayed_send(this, every_, tick_atom::value); });
  }

  protocols::duration every_;
};

} // namespace troupe::actors
