#include "actors/executor_actor.hpp"

namespace troupe::actors {

executor_actor::executor_actor(caf::actor_config& config, const rank_context& rank, std::shared_ptr<mesh_executor> runs,
                               std::string what)
    : rank_actor(config, rank, what + " executor", std::nullopt, watch::never), runs_(std::move(runs)),
      what_(std::move(what)) {}

caf::behavior executor_actor::make_behavior() {
  return {[this](run_atom) {
    if (const auto ended = runs_->run(); !ended)
      rank_.fail_rank(ended.error(), what_ + " executor");
    quit();
  }};
}

} // namespace troupe::actors
