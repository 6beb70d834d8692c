#pragma once

#include <caf/all.hpp>

#include "actors/rank_actor.hpp"

namespace troupe::actors {

/// The peer has this lane from now on, its first or that of a new generation.
struct relink {
  fabric::link_queues::key lane = 0;
};

/// Stands for one peer in this rank, whatever its generation: what is sent to it (`outgoing`) becomes a frame. A link
/// that cannot queue a frame has a peer that has not read for `limits::link_queue_frames_max` frames: the windows of
/// the machines bound what is sent well below that, so it is a broken rank and not a busy one. What is sent while the
/// peer is dead is dropped: it was meant for a generation that is no more (D4). What was decided before the peer's new
/// lane began is dropped by that lane, for the same reason: a frame names the epoch of its decision.
/// Contract: A5, A26, D8.
class link_actor : public rank_actor {
public:
  link_actor(caf::actor_config& config, const rank_context& rank, protocols::rank_id peer);

  const char* name() const override { return "link"; }

private:
  handlers make_handlers() override;
  void post(outgoing& letter);

  protocols::rank_id peer_;
  fabric::link_queues::key lane_ = 0; ///< of none yet
};

} // namespace troupe::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::relink)
