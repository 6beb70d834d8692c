#pragma once

#include <array>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/life_machine.hpp"
#include "runtime/base/unique_fd.hpp"
#include "runtime/cluster/stop_signals.hpp"

namespace troupe::cluster {

/// Who wants a running job to stop: a person or another process by a signal, this program by `request`.
/// Threads: the supervisor's; `request` any.
class stop_requests {
public:
  struct asked {
    protocols::life_machine::stop_asker by;
    std::string reason;
  };

  stop_requests();

  /// From now on signals come here, until `let_signals_go`.
  void take_signals() { signals_.emplace(); }
  void let_signals_go() { signals_.reset(); }

  void request(asked stop);

  /// What to wait for (POLLIN); -1 for none.
  std::array<int, 2> waitables() const noexcept { return {wake_.get(), signals_ ? signals_->fd() : -1}; }
  /// Those that have come since the last call.
  std::vector<asked> take();
  /// One of them was SIGINT.
  bool interrupted() const noexcept { return interrupted_; }

private:
  base::unique_fd wake_; ///< eventfd
  std::optional<stop_signals> signals_;
  bool interrupted_ = false;
  std::mutex mutex_;             ///< guards `requested_`
  std::vector<asked> requested_; ///< at most `requested_max`: what comes beyond it asks for nothing new
};

} // namespace troupe::cluster
