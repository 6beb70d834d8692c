// Decides outside protocols: the wait itself, on sockets and rings

#include "fabric/lanes/lane.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <type_traits>
#include <utility>

#include "runtime/base/clock.hpp"

namespace troupe::fabric {

using namespace protocols;

namespace {

/// Sleeps until one of `fds` has something to say. False: the deadline passed.
bool poll_until(std::span<pollfd> fds, time_point deadline) {
  int ready = 0;
  do {
    const auto left = std::max(duration{0}, deadline - base::now());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec limit{.tv_sec = static_cast<time_t>(seconds.count()),
                         .tv_nsec = static_cast<long>((left - seconds).count())};
    ready = ::ppoll(fds.data(), fds.size(), &limit, nullptr);
    if (ready < 0 && errno != EINTR) // only out of memory in the kernel is left: a wait that cannot sleep must not end
      relax();
  } while (ready <= 0 && base::now() < deadline);
  return ready > 0;
}

/// Runs `attempt` until it says that it is done, fails, or the deadline passes: first spinning, then asleep.
template <class Attempt>
typename std::invoke_result_t<Attempt>::value_type until_done(lane& on, lane::interest wanted, time_point deadline,
                                                              Attempt attempt) {
  if (auto done = attempt())
    return std::move(*done);
  auto& patience = on.patience();
  const auto spin_end = std::min(base::now() + patience.next(), deadline);
  while (base::now() < spin_end) {
    relax();
    if (auto done = attempt()) {
      patience.found();
      return std::move(*done);
    }
  }

  patience.slept();
  for (bool in_time = true;;) {
    if (auto done = attempt())
      return std::move(*done);
    if (!in_time)
      return fail(fault::timeout);
    if (on.arm(wanted)) {
      auto set = on.waitables(wanted);
      in_time = poll_until(std::span{set.fds}.first(set.count), deadline);
      on.disarm();
    } else {
      in_time = base::now() < deadline;
    }
  }
}

} // namespace

std::string_view name(lane_kind kind) noexcept {
  switch (kind) {
  case lane_kind::shared_memory:
    return "shared_memory";
  case lane_kind::tcp:
    return "tcp";
  }
  return {};
}

result<void> wait_any(std::span<const waiting> lanes, time_point deadline, std::vector<pollfd>& scratch) {
  std::size_t armed = 0;
  while (armed < lanes.size() && lanes[armed].on->arm(lanes[armed].wanted))
    ++armed;

  bool moved = true;
  if (armed == lanes.size()) {
    scratch.clear();
    for (const auto& each : lanes) {
      const auto set = each.on->waitables(each.wanted);
      scratch.insert(scratch.end(), set.fds.begin(), set.fds.begin() + static_cast<std::ptrdiff_t>(set.count));
    }
    moved = poll_until(scratch, deadline);
  }
  for (std::size_t i = 0; i < armed; ++i)
    lanes[i].on->disarm();
  if (!moved)
    return fail(fault::timeout);
  return {};
}

result<void> send(lane& to, const frame_header& header, std::span<const std::byte> payload, time_point deadline) {
  return until_done(to, {.readable = false, .writable = true}, deadline, [&]() -> std::optional<result<void>> {
    auto sent = to.try_send(header, payload);
    if (!sent && sent.error().code == fault::lane_full)
      return std::nullopt;
    return sent;
  });
}

result<frame_view> receive(lane& from, time_point deadline) {
  return until_done(from, {.readable = true, .writable = false}, deadline, [&]() -> std::optional<result<frame_view>> {
    auto next = from.peek();
    if (!next)
      return tl::unexpected<failure>{std::move(next.error())};
    if (!*next)
      return std::nullopt;
    return **next;
  });
}

} // namespace troupe::fabric
