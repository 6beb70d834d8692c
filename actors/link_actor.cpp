// Decides outside protocols: the queue of a link and its bound are the wire's

#include "actors/link_actor.hpp"

#include "protocols/wire/codec.hpp"
#include "runtime/base/fault_point.hpp"

namespace troupe::actors {

using namespace protocols;

link_actor::link_actor(caf::actor_config& config, const rank_context& rank, rank_id peer)
    : rank_actor(config, rank, "link to " + rank.plan.rank(peer).label, protocols::actor_kind::link), peer_(peer) {}

template <class Message>
void link_actor::post(const envelope<Message>& letter) {
  TROUPE_FAULT_POINT("link.posting");
  std::vector<std::byte> payload;
  encode_payload(letter.body, payload);
  const auto posted = rank_.wire->post(lane_, {.type = Message::type, .epoch = letter.epoch}, std::move(payload));
  // A peer that is gone is reported by its lane, once and with its cause.
  if (!posted && posted.error().code != fault::peer_gone)
    rank_.fail_rank(posted.error(), "link to " + rank_.plan.rank(peer_).label);
}

template <class... Messages>
rank_actor::handlers link_actor::frame_each(std::variant<Messages...>*) {
  return on([this](const envelope<Messages>& letter) { post(letter); }...);
}

rank_actor::handlers link_actor::make_handlers() {
  return frame_each(static_cast<serve_message*>(nullptr)).or_else(on([this](const relink& next) {
    lane_ = next.lane;
  }));
}

} // namespace troupe::actors
