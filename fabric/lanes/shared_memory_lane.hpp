#pragma once

#include <memory>

#include "fabric/edge.hpp"
#include "fabric/lanes/connect.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::fabric {

/// What makes up a shared-memory lane: one memory file with two rings, and a doorbell for each end.
/// The connecting side makes it and passes it with its hello (SCM_RIGHTS), in this order.
struct shared_memory_kit {
  base::unique_fd memory;            ///< memfd, sealed against growing and shrinking: a mapped page cannot vanish
  base::unique_fd connects_doorbell; ///< eventfd that wakes the side that connects
  base::unique_fd accepts_doorbell;
};

/// Errors: no_memory.
protocols::result<shared_memory_kit> make_shared_memory_kit(const lane_options& options);

enum class lane_side { connects, accepts };

/// Maps the kit. `companion` is a connected unix stream socket over which nothing is sent: its end tells that the peer
/// has died or closed. Errors: bad_value (the memory is not sealed or not of the size that `options` give), no_memory.
protocols::result<std::unique_ptr<lane>> make_shared_memory_lane(shared_memory_kit kit, base::unique_fd companion,
                                                                 lane_side side, const edge& between,
                                                                 const lane_options& options);

} // namespace troupe::fabric
