#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/corpus.hpp"
#include "tests/sim/schedule.hpp"

namespace troupe::sim {

/// Many schedules, in processes beside each other.
struct batch_options {
  schedule_options each; ///< its seed is the first
  std::optional<std::uint64_t> schedules;
  std::optional<std::chrono::seconds> lasts;
  unsigned workers = 1;
  /// Run first. Later every second schedule is another course of one that is kept, if there is a corpus at all.
  const corpus* from = nullptr;
};

struct failed_schedule {
  std::uint64_t seed = 0;
  std::uint64_t course = 0;
  std::string check;
  std::string breach;
};

struct batch_totals {
  std::uint64_t schedules = 0;
  std::uint64_t steps = 0;
  std::uint64_t questions = 0;
  std::uint64_t answered = 0;
  double virtual_seconds = 0;
  double seconds = 0; ///< of the wall
  std::uint64_t slowest_seed = 0;
  double slowest_seconds = 0;
  std::vector<std::uint64_t> reach; ///< how often each of `reachable()`, in all schedules
  std::vector<kept_schedule> kept;  ///< those that reached what none before them had
  std::uint64_t fresh = 0;          ///< seeds of which none had been tried
  std::uint64_t failed = 0;
  std::vector<failed_schedule> failures; ///< the first of them
};

/// Ends when so many schedules have run, the time has passed, or `failures_max` have failed. A schedule that breaks an
/// invariant, crashes or does not end, ends its process; that counts as a failure of its seed, and another process goes
/// on. `tell`: now and then. Call it from a process without threads.
batch_totals run_batch(const batch_options& options, const std::function<void(const batch_totals&)>& tell);
inline constexpr std::size_t failures_max = 16;

/// The same seed with fewer ranks and questions, less that goes wrong and for a shorter time, as long as the same check
/// fails; each is tried in a process of its own.
schedule_options shrink(schedule_options failing);

} // namespace troupe::sim
