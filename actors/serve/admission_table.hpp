#pragma once

#include <map>
#include <mutex>

#include "protocols/serve/mesh_plan.hpp"

namespace troupe::actors {

/// What this rank will say of each room when the mesh votes. The role actor writes, the executor reads.
/// A room that is not on the board has ended here, so the answer is `failed`: the request must not enter a collective.
/// Contract: B15.
/// Threads: any; held for a few instructions, once a request and never in a decode step.
class admission_table {
public:
  void set(protocols::room_id room, protocols::admission status) {
    const std::lock_guard lock{mutex_};
    rooms_[room] = status;
  }
  void forget(protocols::room_id room) {
    const std::lock_guard lock{mutex_};
    rooms_.erase(room);
  }
  protocols::admission of(protocols::room_id room) const {
    const std::lock_guard lock{mutex_};
    const auto found = rooms_.find(room);
    return found == rooms_.end() ? protocols::admission::failed : found->second;
  }

private:
  mutable std::mutex mutex_;
  std::map<protocols::room_id, protocols::admission> rooms_;
};

} // namespace troupe::actors
