#pragma once

// Decides outside protocols: an exception crosses no actor

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
/// std::exception ends the process. An actor that never comes back from a message is found by the watchdog (C4), and so
/// is one whose messages nobody begins (K13): its mailbox says whether there are any. Its turns stand in the flight
/// record as what the rank was in (C8).
/// An actor that is watched lives as long as the signs of its rank, or tells them that it ends.
class rank_actor : public caf::event_based_actor, private base::queued_work {
public:
  ~rank_actor() override { turn_.watch(nullptr); }

  caf::resumable::resume_result resume(caf::execution_unit* on, std::size_t messages_max) override {
    auto turn = turn_;
    const bool ticks = ticks_;
    turn.set(true);
    const auto outcome = [&] {
      std::optional<base::flight_turn> noted;
      if (kind_)
        noted.emplace(protocols::record_of(*kind_));
      return caf::event_based_actor::resume(on, messages_max);
    }();
    if (!ticks) // the actor may be gone by now
      turn.set(false);
    return outcome;
  }

protected:
  enum class watch {
    always,
    never,   ///< what it does may take its time, or for ever
    ticking, ///< it gives itself a message at short intervals, and is never at rest
  };

  /// `kind`: what its turns are called in the flight record; none: they are not noted.
  rank_actor(caf::actor_config& config, const rank_context& rank, std::string what,
             std::optional<protocols::actor_kind> kind, watch wanted = watch::always)
      : caf::event_based_actor(config), rank_(rank), kind_(kind), ticks_(wanted == watch::ticking),
        turn_(wanted == watch::never || !rank.turns ? base::busy_sign{}
              : ticks_ ? rank.turns->claim("the actor system's clock or workers stand still")
                       : rank.turns->claim("an actor does not come back from a message, or to one that waits")) {
    turn_.watch(this);
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
  /// What CAF reads to know whether to schedule the actor: one atomic pointer.
  bool is_waiting() const noexcept override { return !mailbox_.blocked() && !mailbox_.closed(); }

  std::optional<protocols::actor_kind> kind_;
  bool ticks_;
  base::busy_sign turn_;
};

} // namespace troupe::actors
