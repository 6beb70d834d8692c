#pragma once

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <ctime>

#include "runtime/base/clock.hpp"

namespace troupe::tests {

/// Makes this process the one that inherits the orphans of its children, so that it can wait for the last of them.
class reaper {
public:
  reaper() {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigemptyset(&child_);
    sigaddset(&child_, SIGCHLD);
    ::pthread_sigmask(SIG_BLOCK, &child_, &before_);
  }
  ~reaper() {
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  }
  reaper(const reaper&) = delete;
  reaper& operator=(const reaper&) = delete;

  /// Waits until no descendant is left, zombies included. False: the deadline passed first.
  bool sees_all_end(protocols::time_point deadline) {
    for (;;) {
      const auto pid = ::waitpid(-1, nullptr, WNOHANG);
      if (pid < 0 && errno == ECHILD)
        return true;
      if (pid > 0)
        continue;
      const auto left = deadline - base::now();
      if (left <= protocols::duration{0})
        return false;
      const timespec limit{.tv_sec = left / std::chrono::seconds{1},
                           .tv_nsec = (left % std::chrono::seconds{1}).count()};
      ::sigtimedwait(&child_, nullptr, &limit);
    }
  }

private:
  sigset_t child_{};
  sigset_t before_{};
};

} // namespace troupe::tests
