#pragma once

#include <poll.h>

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "runtime/cluster/supervised_rank.hpp"

namespace troupe::cluster {

/// One sleep over everything that ranks have open, so that a thousand quiet ranks cost one system call a turn.
class rank_poll {
public:
  /// Sleeps until a rank, or one of `others` (waited for by POLLIN), has something, at most `wait_ms`.
  /// Returns the places in `ranks` of those that are to be looked at, valid until the next call.
  std::span<const std::size_t> wait(const std::vector<std::unique_ptr<supervised_rank>>& ranks,
                                    std::span<const int> others, int wait_ms);

private:
  std::vector<pollfd> fds_;
  std::vector<std::size_t> owners_; ///< by place in `fds_`; those of `others` are left out
  std::vector<std::size_t> woken_;  ///< places in `fds_` where something was found
  std::vector<std::size_t> due_;
};

} // namespace troupe::cluster
