#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/messages.hpp"
#include "runtime/cluster/process.hpp"
#include "runtime/cluster/supervised_rank.hpp"

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
    bool drills = false;
    std::vector<protocols::inject> rules; ///< armed in the first generation of their ranks
  };

  /// Errors: no_memory (descriptors are used up).
  static protocols::result<rank_launcher> make(job_data job);

  /// Errors: config_invalid (the program cannot be started), no_memory.
  protocols::result<std::unique_ptr<supervised_rank>> launch(const protocols::rank_plan& rank,
                                                             protocols::generation born);

private:
  rank_launcher(job_data job, pipe_ends death);

  job_data job_;
  std::array<std::byte, 32> token_{}; ///< of the job: what a peer must show in its hello
  pipe_ends death_;
};

} // namespace troupe::cluster
