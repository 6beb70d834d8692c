#include "tools/troupe/interruption.hpp"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <string>

#include "runtime/base/assert.hpp"
#include "runtime/base/outlet.hpp"

namespace troupe::tools {

interruption::interruption(cluster::supervisor& supervisor)
    : supervisor_(supervisor), wake_(::eventfd(0, EFD_CLOEXEC)) {
  TROUPE_ASSERT("wake-up", wake_);
  thread_ = std::thread{[this] { watch(); }};
}

interruption::~interruption() {
  const std::uint64_t one = 1;
  TROUPE_ASSERT("wake-up", ::write(wake_.get(), &one, sizeof one) == sizeof one);
  thread_.join();
}

void interruption::finish() {
  if (!asked_.exchange(true))
    supervisor_.request_stop("every page has its answer");
}

void interruption::watch() {
  std::array<pollfd, 2> fds{pollfd{.fd = signals_.fd(), .events = POLLIN, .revents = 0},
                            pollfd{.fd = wake_.get(), .events = POLLIN, .revents = 0}};
  while (fds[1].revents == 0) { // ends with its owner, who ends with the run
    ::poll(fds.data(), fds.size(), -1);
    while (const auto signal = signals_.take()) {
      seen_ = true;
      asked_ = true;
      if (only_answers_)
        base::standard_output().give_up();
      using enum protocols::life_machine::stop_asker;
      supervisor_.request_stop(std::string{"signal "} + ::strsignal(*signal), *signal == SIGINT ? terminal : program);
    }
  }
}

} // namespace troupe::tools
