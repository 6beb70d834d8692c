#pragma once

#include "process.hpp"
#include "protocols/serve/serve_message.hpp"

/// The lanes between ranks: a message becomes a frame, its bytes travel, and the far end checks and decodes them, all
/// with the product's own code.
namespace troupe::sim {

/// Joins two processes by a lane of that kind, as a hello and its welcome do.
void join(process& connects, process& accepts, bool for_tokens);
/// Sends to another rank. Where there is no lane (any more) the message is dropped, as a link does.
void send(process& from, protocols::rank_id to, const protocols::serve_message& body, bool for_tokens);
/// Both ends learn of it in their time.
void cut_lane(process& one, protocols::rank_id peer, bool for_tokens, const protocols::failure& cause);

} // namespace troupe::sim
