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
#include "runtime/base/doorbell.hpp"

namespace troupe::cluster {

namespace {

constexpr std::size_t requested_max = 64;

} // namespace

stop_requests::stop_requests() : wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  TROUPE_ASSERT("supervisor wake-up", wake_);
}

void stop_requests::request(asked stop) {
  {
    const std::lock_guard lock{mutex_};
    if (requested_.size() < requested_max)
      requested_.push_back(std::move(stop));
  }
  base::ring(wake_);
}

std::vector<stop_requests::asked> stop_requests::take() {
  using enum protocols::life_machine::stop_asker;
  std::vector<asked> stops;
  while (const auto signal = signals_ ? signals_->take() : std::nullopt) {
    interrupted_ |= *signal == SIGINT;
    stops.push_back(
        {*signal == SIGINT ? terminal : program, fmt::format("signal {} ({})", *signal, ::strsignal(*signal))});
  }
  std::uint64_t rung = 0;
  if (::read(wake_.get(), &rung, sizeof rung) < 0)
    return stops;
  const std::lock_guard lock{mutex_};
  std::ranges::move(std::exchange(requested_, {}), std::back_inserter(stops));
  return stops;
}

} // namespace troupe::cluster
