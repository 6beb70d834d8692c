#pragma once

#include <exception>
#include <string>

#include <caf/all.hpp>

#include "actors/rank_context.hpp"

namespace troupe::actors {

/// What the actors of a rank have in common: an exception in one of them ends the rank with its words. Left to itself
/// it would end the actor alone, and everybody who talks to it would wait for their deadlines (C1, C15). One that is no
/// std::exception ends the process.
class rank_actor : public caf::event_based_actor {
protected:
  rank_actor(caf::actor_config& config, const rank_context& rank, std::string what)
      : caf::event_based_actor(config), rank_(rank) {
    set_exception_handler([&rank, what = std::move(what)](std::exception_ptr& thrown) -> caf::error {
      rank.fail_rank({protocols::fault::executor_failed, words_of(thrown)}, what);
      return caf::make_error(caf::sec::runtime_error);
    });
  }

  static std::string words_of(const std::exception_ptr& thrown) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& problem) {
      return problem.what();
    }
  }

  const rank_context& rank_;
};

} // namespace troupe::actors
