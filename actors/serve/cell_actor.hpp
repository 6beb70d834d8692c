#pragma once

#include <cstdint>
#include <utility>
#include <variant>

#include <caf/all.hpp>

#include "actors/role_actor.hpp"
#include "actors/serve/admission_table.hpp"
#include "actors/serve/serve_events.hpp"
#include "protocols/serve/message_partners.hpp"
#include "runtime/base/overloaded.hpp"

namespace troupe::actors {

/// Base of the actors of encode, prefill and decode ranks. Every rank has a member machine; the first rank also has a
/// leader machine. This class provides the tick, the sender's place in the cell, and the performing of effects.
/// Contract: A4, B15.
class cell_actor : public role_actor {
protected:
  cell_actor(caf::actor_config& config, const rank_context& rank, protocols::actor_kind kind, protocols::cell_id cell,
             caf::actor executor);

  virtual handlers member_handlers() = 0;
  /// Of the leader alone.
  virtual handlers leader_handlers() = 0;
  /// Every `tick_period`.
  virtual void on_tick() = 0;

  bool leads() const noexcept { return place_ == 0; }

  /// Sends what is a message, and gives every other effect to that of `others` that takes it.
  template <class Effects, class... Others>
  void carry_out(Effects what, Others... others) {
    const base::overloaded each{[this](protocols::send_message& message) { send_out(std::move(message)); },
                                std::move(others)...};
    for (auto& effect : what)
      std::visit(each, effect);
  }
  /// For `carry_out`: every effect that nobody else takes is an order of the cell's executor.
  auto to_executor() {
    return [this](auto& order) { caf::anon_send(executor_, std::move(order)); };
  }
  /// For `carry_out`: what this rank will say when the mesh votes.
  static auto to_board(admission_table& board) {
    return base::overloaded{
        [&board](const protocols::room_admission& known) { board.set(known.room, known.status); },
        [&board](const protocols::room_forgotten& gone) { board.forget(gone.room); },
    };
  }
  /// A handler of what a rank of this cell says; `react` gets the message and the place of the rank. A message
  /// of a rank of another cell is ignored.
  template <class Message, class React>
  auto from_place(React react) {
    return [this, react = std::move(react)](const envelope<Message>& word) {
      if (const auto place = cell_.place_of(word.source))
        react(word.body, *place);
    };
  }
  void report(protocols::request_id request, protocols::phase part, protocols::time_point began,
              protocols::time_point ended);

  const protocols::cell_plan& cell_;
  const std::uint32_t place_;
  const caf::actor executor_;

private:
  handlers make_handlers() final;
  void send_out(protocols::send_message message);
};

} // namespace troupe::actors
