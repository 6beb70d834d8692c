#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace troupe::cluster {

/// What a rank is told at spawn; all else comes in the supervisor's first frame, so that nothing secret stands in argv.
struct rank_arguments {
  std::uint32_t rank = 0;
  int control_fd = -1;                ///< stream socket to the supervisor
  int death_fd = -1;                  ///< read end of the death pipe: its end means that the supervisor is gone
  int pulse_fd = -1;                  ///< the supervisor's sign of life
  std::uint32_t supervisor_ms = 0;    ///< without one for so long it is given up
  int supervisor_pid = 0;             ///< for the check that closes the race of PR_SET_PDEATHSIG
  std::vector<std::string> plugins{}; ///< "NAME=DESCRIPTOR" of each that the job began with
};

/// The life of a rank, from spawned to left, on the calling thread. Returns a `base::exit_code`.
int rank_main(const rank_arguments& arguments);

} // namespace troupe::cluster
