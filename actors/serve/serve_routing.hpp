#pragma once

#include "actors/rank_context.hpp"
#include "protocols/serve/serve_message.hpp"

/// Routing of the messages of `serve`.
namespace troupe::actors {

/// Delivers what a machine wants sent: to the role actor on this rank, or to the link of the peer.
/// `from` is the role that sends: what it sends within its own cell stays with that role on a rank that has several.
/// `decided_in`: the epoch that the role had come to when it decided to send it.
void deliver(const rank_context& rank, protocols::role_kind from, protocols::send_message what,
             protocols::cache_epoch decided_in);

/// Tells the front how long a part of a request took here.
protocols::send_message timing_of(const rank_context& rank, protocols::request_id request, protocols::phase part,
                                  protocols::time_point began, protocols::time_point ended);

/// Decodes a frame of a peer's control lane and hands it to the role actor that it is for, or keeps it until the role
/// is there (K12). What the sender may not say goes to nobody. Errors: those of the codec; unknown_type for a frame
/// that is no message between roles.
protocols::result<void> accept_frame(const rank_context& rank, const protocols::frame_view& frame);

} // namespace troupe::actors
