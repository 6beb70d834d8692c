#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checks.hpp"
#include "draw.hpp"
#include "drawn_cluster.hpp"
#include "history.hpp"
#include "process.hpp"
#include "protocols/serve/serve_message.hpp"
#include "time_line.hpp"
#include "weather.hpp"

namespace troupe::sim {

class clients;
class cell_steps_company;

/// One simulated cluster: all of its processes, what joins them, those who use it, and what is known of the run.
class world {
public:
  world(std::uint64_t seed, sim_cluster cluster, const weather& sky, bool tells);
  ~world();

  const protocols::cluster_plan& plan() const noexcept { return cluster.plan; }
  const protocols::cluster_spec& spec() const noexcept { return cluster.spec; }
  std::chrono::milliseconds ms(std::uint32_t of) const { return std::chrono::milliseconds{of}; }

  /// The process that is the rank now; null: none runs.
  process* at(protocols::rank_id rank) const { return ranks[rank.value].get(); }
  protocols::duration delay(protocols::duration mean);

  /// Ranks that serve at once, without a start; what a start does is simulated where a supervisor is.
  void begin();
  /// A rank ends by itself.
  void on_drained(process& front);
  void on_rank_failed(process& rank, const protocols::failure& cause, const std::string& where);

  sim_cluster cluster;
  weather sky;
  const bool stormy; ///< of the weather that it began with
  draw dice;
  time_line time;
  history past;
  checks judge;
  std::vector<std::shared_ptr<process>> ranks;
  std::unique_ptr<clients> users;
  std::uint64_t frames = 0;
};

} // namespace troupe::sim
