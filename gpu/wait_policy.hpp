#pragma once

// Decides outside protocols: the wait itself, for a device

#include <poll.h>
#include <sched.h>

#include <chrono>
#include <cstdint>

#include "protocols/time.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::gpu {

/// How a thread waits for a device; a deadline it always has.
enum class wait_policy : std::uint8_t {
  /// It looks again at once. For a decode step: what comes of it is on its way to somebody, and no sleep is as short as
  /// a step may be late.
  spin,
  /// It looks again at once for a moment, then sleeps between looks. For a piece of a prompt, a picture, weights: ten
  /// milliseconds and more, which a core is not to be burnt for, and the next of them is on the stream behind it. An
  /// event that blocks its thread has no deadline, and a host function that would ring a doorbell is not called when
  /// the
  /// device has failed.
  backoff,
};

/// One wait, look by look.
class patient_wait {
public:
  patient_wait(protocols::time_point deadline, wait_policy how) noexcept : deadline_(deadline), how_(how) {}

  /// After a look that found nothing. False: the deadline has come.
  bool go_on() noexcept {
    const auto now = base::now();
    if (now >= deadline_)
      return false;
    if (how_ == wait_policy::backoff && now - began_ >= nap_after)
      ::ppoll(nullptr, 0, &nap, nullptr);
    else
      ::sched_yield();
    return true;
  }
  protocols::duration lasted() const noexcept { return base::now() - began_; }

private:
  static constexpr std::chrono::microseconds nap_after{100};
  static constexpr timespec nap{.tv_sec = 0, .tv_nsec = 50'000};

  protocols::time_point began_ = base::now();
  protocols::time_point deadline_;
  wait_policy how_;
};

} // namespace troupe::gpu
