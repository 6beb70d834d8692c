#pragma once

#include <atomic>
#include <functional>

#include "actors/rank_program.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/drill/drill_messages.hpp"

/// The rank's side of drills.
namespace troupe::cluster {

/// Arms this process when its launch says that drills are on, with the launch's rules; before it has other threads.
/// Errors: those of a rule. A rule of the first phase strikes at its fault point, not here.
protocols::result<void> arm_drills(const protocols::launch& start, protocols::rank_id self);

/// A rule that came after the start. Errors: invalid_request (drills are off), those of the rule.
protocols::result<void> take_injection(const protocols::inject& order);

/// From here on a `deliver` rule reaches the actors of `program` as a frame of a peer does; it must outlive the
/// process's threads. `on_refused`: what becomes of the edge of a peer whose frame is refused.
void take_deliveries(actors::rank_program& program, protocols::rank_id self,
                     std::function<void(protocols::rank_id peer, const protocols::failure& cause)> on_refused);

/// Device faults strike `device` from here on, and `captures`, which outlives the process's threads.
void take_device_faults(const std::string& device, std::atomic<bool>& captures);

} // namespace troupe::cluster
