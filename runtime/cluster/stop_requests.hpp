#pragma once

#include <array>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/unique_fd.hpp"
#include "runtime/cluster/stop_signals.hpp"

namespace troupe::cluster {

/// Who wants a running job to stop: a person by a signal, a program by `request`.
/// Threads: the supervisor's; `request` any.
class stop_requests {
public:
  stop_requests();

  /// From now on signals come here, until `let_signals_go`.
  void take_signals() { signals_.emplace(); }
  void let_signals_go() { signals_.reset(); }

  void request(std::string reason);

  /// What to wait for (POLLIN); -1 for none.
  std::array<int, 2> waitables() const noexcept { return {wake_.get(), signals_ ? signals_->fd() : -1}; }
  /// The reasons that have come since the last call.
  std::vector<std::string> take();
  /// One of them was SIGINT.
  bool interrupted() const noexcept { return interrupted_; }

private:
  base::unique_fd wake_; ///< eventfd
  std::optional<stop_signals> signals_;
  bool interrupted_ = false;
  std::mutex mutex_; ///< guards `requested_`
  std::vector<std::string> requested_;
};

} // namespace troupe::cluster
