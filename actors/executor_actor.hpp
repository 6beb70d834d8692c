#pragma once

#include <memory>

#include <caf/all.hpp>

#include "actors/mesh_executor.hpp"
#include "actors/rank_actor.hpp"

namespace troupe::actors {

/// Owns the thread on which a cell's steps run: a detached actor that enters the executor's loop and leaves when the
/// loop does. It has no mailbox to speak of: orders come by `mesh_executor::order`, results go to the role actor.
/// Contract: C8, E10.
class executor_actor : public rank_actor {
public:
  executor_actor(caf::actor_config& config, const rank_context& rank, std::shared_ptr<mesh_executor> runs,
                 std::string what);

  caf::behavior make_behavior() override;
  const char* name() const override { return "executor"; }

private:
  std::shared_ptr<mesh_executor> runs_;
  std::string what_;
};

} // namespace troupe::actors
