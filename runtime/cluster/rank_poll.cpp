#include "runtime/cluster/rank_poll.hpp"

#include "protocols/cluster/due_order.hpp"

namespace troupe::cluster {

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
  woken_.clear();
  for (std::size_t i = 0; i < owners_.size(); ++i)
    if (fds_[i].revents != 0)
      woken_.push_back(i);
  protocols::put_due_in_order(owners_, woken_, !sleeps, due_);
  return due_;
}

} // namespace troupe::cluster
