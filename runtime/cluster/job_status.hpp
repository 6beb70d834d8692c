#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "protocols/cluster/life_machine.hpp"
#include "protocols/fault.hpp"

namespace troupe::cluster {

/// What status.json says of a running job.
struct job_status {
  struct rank {
    std::uint32_t id = 0;
    std::string label;
    std::string role;
    pid_t pid = 0;
    std::string device; ///< "cpu", "cuda:1"; empty: it computes nothing, or has not said yet
    std::string state;  ///< protocols::life_state by name
    std::uint32_t generation = 0;

    bool operator==(const rank&) const = default;
  };

  std::string state; ///< of the cluster, see `name_of`
  std::string front_socket;
  std::vector<rank> ranks;
  int exit_code = 0;      ///< of the supervisor, once `state` is "ended"
  std::string cause = {}; ///< of an exit code that is not 0
  std::string http = {};  ///< where the front's door listens; empty: nowhere

  bool operator==(const job_status&) const = default;
};

std::string to_json(const job_status& status);
/// Errors: config_invalid.
protocols::result<job_status> parse_job_status(std::string_view json);

/// "starting", "ready", "recovering", "draining", "aborting", "killing", "ended".
std::string name_of(protocols::life_machine::state state);

} // namespace troupe::cluster
