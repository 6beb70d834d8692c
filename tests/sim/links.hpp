#pragma once

#include "protocols/serve/serve_message.hpp"
#include "tests/sim/process.hpp"

/// The lanes between ranks: a message becomes a frame, its bytes travel, and the far end checks and decodes them, all
/// with the product's own code.
namespace troupe::sim {

/// Handles the frames that came before the lane was taken.
void take_waiting(process& at, protocols::rank_id peer, bool for_tokens, protocols::generation peer_born);
/// The process at the other end of every lane of `gone` learns that it has ended.
void close_lanes_of(process& gone);
/// The process at the other end of that lane has ended, and this end learns of it.
void lane_ended(process& at, protocols::rank_id of, protocols::generation of_born, bool for_tokens);
/// Sends to another rank what was decided in that epoch. Where there is no lane (any more), or the lane began later,
/// the message is dropped, as a link does.
void send(process& from, protocols::rank_id to, protocols::cache_epoch decided_in, const protocols::serve_message& body,
          bool for_tokens);
/// This end learns of it at once, the other a frame later.
void cut_lane(process& one, protocols::rank_id peer, bool for_tokens, const protocols::failure& cause);

} // namespace troupe::sim
