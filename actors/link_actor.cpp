// Decides outside protocols: the queue of a link and its bound are the wire's

#include "actors/link_actor.hpp"

#include "runtime/base/fault_point.hpp"

namespace troupe::actors {

using namespace protocols;

link_actor::link_actor(caf::actor_config& config, const rank_context& rank, rank_id peer)
    : rank_actor(config, rank, "link to " + rank.plan.rank(peer).label, protocols::actor_kind::link), peer_(peer) {}

void link_actor::post(outgoing& letter) {
  TROUPE_FAULT_POINT("link.posting");
  const auto posted = rank_.wire->post(lane_, {.type = letter.type, .epoch = letter.epoch}, std::move(letter.payload));
  // A peer that is gone is reported by its lane, once and with its cause.
  if (!posted && posted.error().code != fault::peer_gone)
    rank_.fail_rank(posted.error(), "link to " + rank_.plan.rank(peer_).label);
}

rank_actor::handlers link_actor::make_handlers() {
  return on([this](outgoing& letter) { post(letter); }, [this](const relink& next) { lane_ = next.lane; });
}

} // namespace troupe::actors
