#pragma once

// Decides outside protocols: an exception crosses no actor

#include <exception>
#include <optional>
#include <string>
#include <typeinfo>
#include <utility>

#include <caf/all.hpp>

#include "actors/rank_context.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/uncaught.hpp"

namespace troupe::actors {

/// What the actors of a rank have in common: an exception in one of them ends the rank with its words. Left to itself
/// it would end the actor alone, and everybody who talks to it would wait for their deadlines (C1, C15). One that is no
/// std::exception ends the process. So does a message that it has no handler for end the rank: handles are not typed,
/// and CAF by itself would print it and go on. The watchdog finds an actor that does not return from a message (C4),
/// and one whose mailbox holds messages that are not taken (K13). Each turn is written to the flight record as the
/// rank's current activity (C8). So each message is a turn, which its handler begins and ends: an actor makes its
/// handlers with `on`, and CAF gets them from here alone. Rejected: to override how CAF's scheduler resumes an actor.
/// That saved a turn between two messages, and tied us to what CAF changes from version to version. A watched actor
/// must not outlive `rank.turns`. Its destructor removes its mailbox from the watchdog's view.
class rank_actor : public caf::event_based_actor {
public:
  ~rank_actor() override { turn_.watch(nullptr); }

  caf::behavior make_behavior() final { return make_handlers().all_; }

protected:
  enum class watch {
    always,
    never,   ///< what it does may take its time, or for ever
    ticking, ///< it gives itself a message at short intervals, and is never at rest
  };

  /// `kind`: what its turns are called in the flight record; none: they are not noted.
  rank_actor(caf::actor_config& config, const rank_context& rank, const std::string& what,
             std::optional<protocols::actor_kind> kind, watch wanted = watch::always)
      : caf::event_based_actor(config), rank_(rank), kind_(kind), ticks_(wanted == watch::ticking),
        turn_(wanted == watch::never || !rank.turns ? base::progress_counter{}
              : ticks_ ? rank.turns->claim("the actor system's clock or workers stand still")
                       : rank.turns->claim("an actor does not come back from a message, or to one that waits")) {
    turn_.watch(&messages_);
    set_exception_handler([&rank, what](std::exception_ptr& thrown) -> caf::error {
      rank.fail_rank(failure_of(thrown), what);
      return caf::make_error(caf::sec::runtime_error);
    });
    set_default_handler([&rank, what](caf::scheduled_actor*, caf::message_view& got) -> caf::result<caf::message> {
      const auto* const type = got.content().size() == 1 ? got.content().type(0).second : nullptr;
      rank.fail_rank({protocols::fault::unknown_type,
                      std::string{"it has no handler for "} + (type != nullptr ? type->name() : "such a message")},
                     what);
      return caf::sec::unexpected_message;
    });
  }

  /// Handlers of messages, each of which is a turn.
  class handlers {
  public:
    handlers() = default;
    handlers or_else(const handlers& more) const { return handlers{all_.or_else(more.all_)}; }

  private:
    friend class rank_actor;
    explicit handlers(caf::message_handler all) : all_(std::move(all)) {}
    caf::message_handler all_;
  };
  /// Once, when the actor begins.
  virtual handlers make_handlers() = 0;

  /// Each of `all` takes one message; what it returns, if anything, is the answer to who sent it.
  template <class... Handlers>
  handlers on(Handlers... all) {
    return handlers{caf::message_handler{as_turn(std::move(all), &Handlers::operator())...}};
  }

  static protocols::failure failure_of(const std::exception_ptr& thrown) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& problem) {
      return base::failure_of(problem);
    }
  }

  /// For an actor whose messages are long work: a part is done.
  void note_progress() noexcept { turn_.set(true); }

  const rank_context& rank_;

private:
  /// The actor is in the middle of a message.
  class turn {
  public:
    explicit turn(rank_actor& whose) : whose_(whose) {
      whose_.turn_.set(true);
      if (whose_.kind_)
        noted_.emplace(protocols::record_of(*whose_.kind_));
    }
    turn(const turn&) = delete;
    turn& operator=(const turn&) = delete;
    ~turn() {
      noted_.reset();
      if (!whose_.ticks_)
        whose_.turn_.set(false);
    }

  private:
    rank_actor& whose_;
    std::optional<base::flight_turn> noted_;
  };

  template <class Handler, class Answer, class Message>
  auto as_turn(Handler handler, Answer (Handler::*)(Message) const) {
    return [this, handler = std::move(handler)](Message what) {
      const turn here{*this};
      return handler(std::forward<Message>(what));
    };
  }

  /// An object of its own: the watchdog looks while the constructors of the derived class still run, which change what
  /// a virtual call of the actor itself reads.
  class waiting_messages final : public base::queued_work {
  public:
    explicit waiting_messages(const mailbox_type& of) noexcept : of_(of) {}
    /// What CAF reads to know whether to schedule the actor: one atomic pointer.
    bool is_waiting() const noexcept override { return !of_.blocked() && !of_.closed(); }

  private:
    const mailbox_type& of_;
  };

  std::optional<protocols::actor_kind> kind_;
  bool ticks_;
  base::progress_counter turn_;
  waiting_messages messages_{mailbox()};
};

} // namespace troupe::actors
