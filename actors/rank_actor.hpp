#pragma once

#include <exception>
#include <string>

#include <caf/all.hpp>

#include "actors/rank_context.hpp"

namespace troupe::actors {

/// What the actors of a rank have in common: an exception in one of them ends the rank with its words. Left to itself
/// it would end the actor alone, and everybody who talks to it would wait for their deadlines (C1, C15). One that is no
/// std::exception ends the process. An actor that never comes back from a message is found by the watchdog (E6).
class rank_actor : public caf::event_based_actor {
public:
  caf::resumable::resume_result resume(caf::execution_unit* on, std::size_t messages_max) override {
    auto* const turn = turn_;
    if (turn == nullptr)
      return caf::event_based_actor::resume(on, messages_max);
    turn->fetch_add(1, std::memory_order_relaxed);
    const auto outcome = caf::event_based_actor::resume(on, messages_max);
    turn->fetch_add(1, std::memory_order_relaxed);
    return outcome;
  }

protected:
  enum class watch { always, never }; ///< never: what it does may take its time, or for ever

  rank_actor(caf::actor_config& config, const rank_context& rank, std::string what, watch wanted = watch::always)
      : caf::event_based_actor(config), rank_(rank),
        turn_(wanted == watch::always && rank.turns ? rank.turns->claim() : nullptr) {
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

private:
  std::atomic<std::uint64_t>* turn_; ///< null: not watched
};

} // namespace troupe::actors
