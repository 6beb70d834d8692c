#include "runtime/cluster/rank_poll.hpp"

namespace troupe::cluster {

std::span<const std::size_t> rank_poll::wait(const std::vector<std::unique_ptr<supervised_rank>>& ranks,
                                             std::span<const int> others, int wait_ms) {
  fds_.clear();
  owners_.clear();
  due_.clear();
  bool sleeps = true;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    sleeps &= ranks[i]->arm(fds_);
    owners_.resize(fds_.size(), i);
  }
  for (const int fd : others)
    fds_.push_back({fd, POLLIN, 0});
  ::poll(fds_.data(), fds_.size(), sleeps ? wait_ms : 0);
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    ranks[i]->disarm();
    if (!sleeps)
      due_.push_back(i);
  }
  if (sleeps)
    for (std::size_t i = 0; i < owners_.size(); ++i)
      if (fds_[i].revents != 0 && (due_.empty() || due_.back() != owners_[i]))
        due_.push_back(owners_[i]);
  return due_;
}

} // namespace troupe::cluster
