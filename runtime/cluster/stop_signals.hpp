#pragma once

#include <signal.h>

#include <optional>

#include "runtime/base/unique_fd.hpp"

namespace troupe::cluster {

/// SIGINT, SIGTERM and SIGHUP as a descriptor that a poll loop can wait for. Blocks them on the calling thread and on
/// threads that it starts from then on; the mask is put back at the end.
/// A SIGHUP that is ignored (nohup) stays ignored.
class stop_signals {
public:
  stop_signals();
  ~stop_signals();
  stop_signals(const stop_signals&) = delete;
  stop_signals& operator=(const stop_signals&) = delete;

  int fd() const noexcept { return fd_.get(); }
  /// The next signal that has come.
  std::optional<int> take() noexcept;

private:
  sigset_t before_{};
  base::unique_fd fd_;
};

} // namespace troupe::cluster
