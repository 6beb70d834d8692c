#include "runtime/cluster/stop_signals.hpp"

#include <sys/signalfd.h>
#include <unistd.h>

#include "runtime/base/assert.hpp"

namespace troupe::cluster {

stop_signals::stop_signals() {
  sigset_t taken;
  sigemptyset(&taken);
  sigaddset(&taken, SIGINT);
  sigaddset(&taken, SIGTERM);
  struct sigaction hangup {};
  if (::sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
    sigaddset(&taken, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &taken, &before_);
  fd_ = base::unique_fd{::signalfd(-1, &taken, SFD_NONBLOCK | SFD_CLOEXEC)};
  TROUPE_ASSERT("stop signals", fd_);
}

stop_signals::~stop_signals() {
  while (take()) { // what came during the end is answered by it
  }
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

std::optional<int> stop_signals::take() noexcept {
  signalfd_siginfo info{};
  if (::read(fd_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info))
    return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

} // namespace troupe::cluster
