#include "runtime/cluster/stop_requests.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "runtime/base/assert.hpp"

namespace troupe::cluster {

stop_requests::stop_requests() : wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  TROUPE_ASSERT("supervisor wake-up", wake_);
}

void stop_requests::request(std::string reason) {
  {
    const std::lock_guard lock{mutex_};
    requested_.push_back(std::move(reason));
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto rung = ::write(wake_.get(), &one, sizeof one);
}

std::vector<std::string> stop_requests::take() {
  std::vector<std::string> reasons;
  while (const auto signal = signals_ ? signals_->take() : std::nullopt) {
    interrupted_ |= *signal == SIGINT;
    reasons.push_back(fmt::format("signal {} ({})", *signal, ::strsignal(*signal)));
  }
  std::uint64_t rung = 0;
  if (::read(wake_.get(), &rung, sizeof rung) < 0)
    return reasons;
  const std::lock_guard lock{mutex_};
  std::ranges::move(std::exchange(requested_, {}), std::back_inserter(reasons));
  return reasons;
}

} // namespace troupe::cluster
