#pragma once

#include <poll.h>

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "runtime/cluster/supervised_rank.hpp"

namespace troupe::cluster {

/// The owners of what poll found, each once, into `due`; those whose process has ended first: what a dead rank leaves
/// undone grows while the frames and the output of others are read. `all`: whoever has something open is due.
/// `owners` stand in order, and the first descriptor of each is its process.
void put_due_in_order(std::span<const pollfd> polled, std::span<const std::size_t> owners, bool all,
                      std::vector<std::size_t>& due);

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
  std::vector<std::size_t> due_;
};

} // namespace troupe::cluster
