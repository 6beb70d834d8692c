// Decides outside protocols: must work before the rank knows its job, and wait for no other thread

#include "runtime/cluster/supervisor_pulse.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <thread>

#include <fmt/format.h>

#include "protocols/cluster/liveness_judge.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/base/flight_recorder.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

constexpr std::size_t page_bytes = sizeof(std::uint64_t);
/// Looks within the time that the supervisor may be silent.
constexpr int looks = 16;

tl::unexpected<failure> cannot(const char* what) {
  return fail(fault::no_memory, fmt::format("cannot {} the supervisor's pulse: {}", what, std::strerror(errno)));
}

[[noreturn]] void leave(std::string_view words) noexcept {
  if (!words.empty()) {
    base::flight().note({.operation = static_cast<std::uint16_t>(fault::timeout), .action = flight_action::fault});
    base::flight().say(words.substr(0, words.size() - 1));
  }
  pollfd out{STDERR_FILENO, POLLOUT, 0}; // a pipe that nobody reads must not hold this thread
  if (!words.empty() && ::poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) != 0) {
    // Last words: the process ends with or without them.
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, words.data(), words.size());
  }
  ::_exit(static_cast<int>(base::exit_code::supervisor_gone));
}

void watch(int death_fd, const std::uint64_t* beats, std::chrono::milliseconds silent_max) {
  const auto period = std::max(std::chrono::milliseconds{1}, silent_max / looks);
  liveness_judge judge{{.suspect = silent_max, .silent = silent_max, .look = 2 * period}};
  for (;;) {
    pollfd death{death_fd, POLLIN, 0};
    if (::poll(&death, 1, static_cast<int>(period.count())) > 0)
      leave({});
    const auto beat = std::atomic_ref{*const_cast<std::uint64_t*>(beats)}.load(std::memory_order_relaxed);
    if (judge.on_sample(beat, base::now()) == liveness_judge::liveness::silent)
      leave("the supervisor is silent: leaving\n");
  }
}

} // namespace

result<supervisor_pulse> supervisor_pulse::make() {
  base::unique_fd page{::memfd_create("troupe-supervisor", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!page || ::ftruncate(page.get(), page_bytes) != 0)
    return cannot("make");
  void* const mapped = ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, page.get(), 0);
  if (mapped == MAP_FAILED)
    return cannot("map");
  supervisor_pulse pulse{std::move(page), static_cast<std::uint64_t*>(mapped)};
  // A rank gone wrong shall neither cut the page nor beat for its supervisor.
  if (::fcntl(pulse.fd(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
    return cannot("seal");
  pulse.beat();
  return pulse;
}

void supervisor_pulse::beat() noexcept {
  std::atomic_ref{*beats_}.fetch_add(1, std::memory_order_relaxed);
}

void supervisor_pulse::unmap::operator()(std::uint64_t* beats) const noexcept {
  ::munmap(beats, page_bytes);
}

result<void> leave_with_supervisor(int death_fd, int pulse_fd, std::chrono::milliseconds silent_max) {
  const base::unique_fd page{pulse_fd};
  void* const mapped = ::mmap(nullptr, page_bytes, PROT_READ, MAP_SHARED, page.get(), 0);
  if (mapped == MAP_FAILED)
    return cannot("map");
  std::thread{watch, death_fd, static_cast<const std::uint64_t*>(mapped), silent_max}.detach();
  return {};
}

} // namespace troupe::cluster
