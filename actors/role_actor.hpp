#pragma once

#include <utility>

#include "actors/rank_actor.hpp"
#include "protocols/cluster/epoch_fence.hpp"
#include "protocols/cluster/validate_epoch.hpp"
#include "runtime/base/log.hpp"

namespace troupe::actors {

/// Base of the actors of roles, in every program. It keeps the epoch that its actor has come to. That is not the
/// rank's: the actor learns of a loss from its mailbox, later than the rank. A message names the epoch in which its
/// sender decided to send it. One of another rank that is too old is logged and dropped here, before a machine has it.
/// Contract: D2, D8.
class role_actor : public rank_actor {
protected:
  using rank_actor::rank_actor;

  /// As `rank_actor::on`. A message of another rank passes the fence first; the order `lost` moves the fence.
  template <class... Handlers>
  handlers on(Handlers... all) {
    return rank_actor::on(behind_fence(std::move(all), &Handlers::operator())...);
  }

  /// The epoch that the actor has come to. It sends its messages in it.
  protocols::cache_epoch epoch() const noexcept { return fence_.current(); }

private:
  template <class Handler, class Answer, class Message>
  auto behind_fence(Handler handler, Answer (Handler::*)(Message) const) {
    return handler;
  }
  template <class Handler, class Message>
  auto behind_fence(Handler handler, void (Handler::*)(const envelope<Message>&) const) {
    return [this, handler = std::move(handler)](const envelope<Message>& letter) {
      const auto holds = protocols::validate_epoch(fence_, rank_.plan, letter.source, letter.epoch, letter.body);
      if (holds)
        return handler(letter);
      rank_.counted->add(protocols::shared_metric::stale_dropped);
      base::log_warning("{} from rank {} dropped: {}", protocols::name(Message::type), letter.source.value,
                        protocols::to_string(holds.error()));
    };
  }
  template <class Handler>
  auto behind_fence(Handler handler, void (Handler::*)(const protocols::lost&) const) {
    return [this, handler = std::move(handler)](const protocols::lost& news) {
      fence_.on_lost(news);
      handler(news);
    };
  }

  protocols::epoch_fence fence_{rank_.epoch};
};

} // namespace troupe::actors
