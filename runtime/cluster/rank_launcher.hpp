#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "protocols/drill/drill_messages.hpp"
#include "protocols/fault.hpp"
#include "runtime/cluster/held_program.hpp"
#include "runtime/cluster/process.hpp"
#include "runtime/cluster/supervised_rank.hpp"
#include "runtime/cluster/supervisor_pulse.hpp"

namespace troupe::cluster {

/// Starts ranks of one job and hands each what it needs: descriptors by number, all else in its first frame.
/// Holds the write end of the death pipe, whose end is this process's end; nothing is ever written to it.
/// Threads: the supervisor's; PR_SET_PDEATHSIG follows it.
class rank_launcher {
public:
  struct job_data {
    std::vector<std::string> command; ///< program and arguments of a rank
    std::string job;
    std::string host;
    job_paths paths;
    std::string spec_json;
    std::uint32_t supervisor_ms = 0; ///< how long a rank waits for a silent supervisor
    bool drills = false;
    std::vector<protocols::inject> rules; ///< armed in the first generation of their ranks
  };

  /// Errors: config_invalid (the program cannot be started), no_memory (descriptors are used up).
  static protocols::result<rank_launcher> make(job_data job);

  /// To be called at least every `timeouts.heartbeat_ms`: ranks leave a supervisor that gives no sign of life.
  void beat() noexcept { pulse_.beat(); }

  /// Of the build that the job began with (K18). Errors: config_invalid (the program cannot be started), no_memory.
  protocols::result<std::unique_ptr<supervised_rank>> launch(const protocols::rank_plan& rank,
                                                             protocols::generation born, protocols::cache_epoch epoch);

private:
  rank_launcher(job_data job, pipe_ends death, supervisor_pulse pulse, held_program program);
  protocols::result<child_process> spawn(protocols::rank_id rank, int control);

  job_data job_;
  std::array<std::byte, 32> token_{}; ///< of the job: what a peer must show in its hello
  pipe_ends death_;
  supervisor_pulse pulse_;
  held_program program_;
};

} // namespace troupe::cluster
