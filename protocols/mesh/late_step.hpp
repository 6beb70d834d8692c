#pragma once

#include <cstdint>
#include <optional>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/fault.hpp"

namespace troupe::protocols {

/// Whose fault it is that a mesh's step has not ended in time.
/// To the hosts all members look alike: each has given its GPU a step, and nothing comes back. But a GPU that waits in
/// a collective says for whom, so the member that it waits for is the one to be named, and a member whose GPU says
/// nothing answers for itself. Where a GPU cannot say (a library's collective), every member does.
/// Contract: C8, J1.
struct late_step {
  failure cause;               ///< peer_gone where another is to blame: a consequence, as the supervisor reads it
  std::optional<rank_id> peer; ///< that one
};

/// `seen`: what this rank's step failed with; only a timeout can be another's. `awaited`: members of `mesh`, a bit
/// each, whom this rank's GPU says it waits for.
late_step judge_late_step(const failure& seen, const group_plan& mesh, std::uint32_t awaited);

} // namespace troupe::protocols
