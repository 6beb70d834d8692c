#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/planted/planted.hpp"

/// Runs schedules with a bug planted until a check finds it. A schedule that fails without the bug as well finds
/// nothing. A check that fails in some schedules of the product is no proof by itself, since a bug shifts what a seed
/// draws: such a check finds a bug when it fails far more often with it.
namespace troupe::sim {

/// How often each check fails with no bug planted: a part of the schedules. Empty where the product is sound.
using failing_checks = std::map<std::string, double>;

struct hunt_options {
  std::uint64_t schedules_max = 20'000; ///< of one trial
  unsigned workers = 1;
  std::optional<std::chrono::seconds> lasts = {}; ///< then every trial stands as far as it has come
  failing_checks of_product;
};

/// One bug, from one seed on.
struct trial {
  int bug = 0;
  std::uint64_t from = 0;             ///< first seed
  std::uint64_t tried = 0;            ///< schedules so far
  std::uint64_t unfit = 0;            ///< of these, those that fail without the bug as well
  double seconds = 0;                 ///< of a processor
  std::optional<std::uint64_t> found; ///< seed
  std::string check;                  ///< that found it
  std::string breach;
};

/// Over so many schedules from `seed` on. An invariant of the product that breaks ends this process: then no bug can be
/// looked for.
failing_checks look_at_product(std::uint64_t seed, std::uint64_t schedules);

/// Goes on with each trial until it finds its bug, has tried `schedules_max` or the time is over, in processes beside
/// each other.
/// A broken invariant, a crash, or a schedule that does not end, ends the process and counts as found.
/// `tell`: after each trial.
void hunt(std::vector<trial>& trials, const hunt_options& how, const std::function<void(const trial&)>& tell);

} // namespace troupe::sim
