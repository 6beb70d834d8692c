#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/time.hpp"

namespace troupe::sim {

/// Identifies a schedule: the seed draws everything, within the bounds that the other members set. Shrinking lowers
/// these.
struct schedule_options {
  std::uint64_t seed = 0;
  /// Another course has the same cluster, weather and number of questions; all that is drawn during the run differs.
  std::uint64_t course = 0;
  std::uint32_t ranks_max = 12;
  std::uint32_t questions_max = 24;
  bool calm = false;         ///< no faults
  std::uint32_t without = 0; ///< kinds of faults to leave out: a bit for each row of `mischiefs`
  std::optional<std::chrono::milliseconds> storm_max = {}; ///< no faults after this time
  bool tells = false;
  std::optional<protocols::cluster_spec> spec = {}; ///< none: drawn
};

struct schedule_result {
  std::uint64_t hash = 0;
  std::uint64_t steps = 0;
  protocols::duration lasted{}; ///< of virtual time
  std::size_t ranks = 0;
  std::size_t questions = 0;
  std::size_t answered = 0;
  std::string check; ///< the check that failed; empty: none
  std::string breach;
  std::vector<std::uint64_t> reach; ///< how often each line of `reachable()` was reached
  std::vector<std::string> story;

  bool good() const noexcept { return check.empty(); }
};

/// Runs one cluster from its first question to its last: first with faults, then without.
schedule_result run_schedule(const schedule_options& options);

/// The cluster and the weather of a schedule, in words.
std::string describe_schedule(const schedule_options& options);

} // namespace troupe::sim
