#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/time.hpp"

namespace troupe::sim {

/// Which run: the seed draws everything; what shrinking lowers is stated beside it.
struct schedule_options {
  std::uint64_t seed = 0;
  /// Another course of the same cluster, weather and questions' number: what is drawn while it runs is drawn anew.
  std::uint64_t course = 0;
  std::uint32_t ranks_max = 12;
  std::uint32_t questions_max = 24;
  bool calm = false;         ///< nothing goes wrong
  std::uint32_t without = 0; ///< what does not go wrong: a bit for each row of `mischiefs`
  std::optional<std::chrono::milliseconds> storm_max = {}; ///< all heals then
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
  std::string check; ///< that was broken; empty: none
  std::string breach;
  std::vector<std::uint64_t> reach; ///< how often each of `reachable()`
  std::vector<std::string> story;

  bool good() const noexcept { return check.empty(); }
};

/// One cluster from its first question to its last, faults first, then healed.
schedule_result run_schedule(const schedule_options& options);

/// What `options` stand for, in words: the cluster and the weather.
std::string describe_schedule(const schedule_options& options);

} // namespace troupe::sim
