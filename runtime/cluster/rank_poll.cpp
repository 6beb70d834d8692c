#include "runtime/cluster/rank_poll.hpp"

#include <algorithm>

namespace troupe::cluster {

void put_due_in_order(std::span<const pollfd> polled, std::span<const std::size_t> owners, bool all,
                      std::vector<std::size_t>& due) {
  due.clear();
  const auto add = [&](std::size_t owner) {
    if (std::ranges::find(due, owner) == due.end())
      due.push_back(owner);
  };
  for (std::size_t i = 0; i < owners.size(); ++i) {
    const bool is_process = i == 0 || owners[i - 1] != owners[i];
    if (is_process && polled[i].revents != 0)
      add(owners[i]);
  }
  for (std::size_t i = 0; i < owners.size(); ++i)
    if (all || polled[i].revents != 0)
      add(owners[i]);
}

std::span<const std::size_t> rank_poll::wait(const std::vector<std::unique_ptr<supervised_rank>>& ranks,
                                             std::span<const int> others, int wait_ms) {
  fds_.clear();
  owners_.clear();
  bool sleeps = true;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    sleeps &= ranks[i]->arm(fds_);
    owners_.resize(fds_.size(), i);
  }
  for (const int fd : others)
    fds_.push_back({fd, POLLIN, 0});
  ::poll(fds_.data(), fds_.size(), sleeps ? wait_ms : 0);
  for (const auto& rank : ranks)
    rank->disarm();
  put_due_in_order(fds_, owners_, !sleeps, due_);
  return due_;
}

} // namespace troupe::cluster
