#pragma once

#include <exception>
#include <optional>
#include <string>

#include <caf/all.hpp>

#include "actors/rank_context.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/uncaught.hpp"

namespace troupe::actors {

/// What the actors of a rank have in common: an exception in one of them ends the rank with its words. Left to itself
/// it would end the actor alone, and everybody who talks to it would wait for their deadlines (C1, C15). One that is no
/// std::exception ends the process. An actor that never comes back from a message is found by the watchdog (C4), and
/// stands in the flight record as what the rank was in (C8).
class rank_actor : public caf::event_based_actor {
public:
  caf::resumable::resume_result resume(caf::execution_unit* on, std::size_t messages_max) override {
    auto turn = turn_; // the actor may be gone when it comes back
    turn.set(true);
    const auto outcome = [&] {
      std::optional<base::flight_turn> noted;
      if (kind_)
        noted.emplace(protocols::record_of(*kind_));
      return caf::event_based_actor::resume(on, messages_max);
    }();
    turn.set(false);
    return outcome;
  }

protected:
  /// `kind`: what its turns are called; none, for one whose messages may take their time, or for ever: it is not
  /// watched.
  rank_actor(caf::actor_config& config, const rank_context& rank, std::string what,
             std::optional<protocols::actor_kind> kind)
      : caf::event_based_actor(config), rank_(rank), kind_(kind),
        turn_(kind && rank.turns ? rank.turns->claim() : busy_sign{}) {
    set_exception_handler([&rank, what = std::move(what)](std::exception_ptr& thrown) -> caf::error {
      rank.fail_rank(failure_of(thrown), what);
      return caf::make_error(caf::sec::runtime_error);
    });
  }

  static protocols::failure failure_of(const std::exception_ptr& thrown) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& problem) {
      return base::failure_of(problem);
    }
  }

  /// For an actor whose messages are long work, or that has many waiting: a part is done.
  void get_on() noexcept { turn_.set(true); }

  const rank_context& rank_;

private:
  std::optional<protocols::actor_kind> kind_;
  busy_sign turn_;
};

} // namespace troupe::actors
