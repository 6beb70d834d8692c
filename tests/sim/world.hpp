#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocols/serve/serve_message.hpp"
#include "tests/sim/checks.hpp"
#include "tests/sim/draw.hpp"
#include "tests/sim/drawn_cluster.hpp"
#include "tests/sim/history.hpp"
#include "tests/sim/process.hpp"
#include "tests/sim/service_checks.hpp"
#include "tests/sim/time_line.hpp"
#include "tests/sim/weather.hpp"

namespace troupe::sim {

class clients;
class supervisor;
struct cell_company;

/// One simulated cluster: all of its processes, what joins them, those who use it, and what is known of the run.
class world {
public:
  world(std::uint64_t seed, sim_cluster cluster, const weather& sky, bool tells);
  ~world();

  const protocols::cluster_plan& plan() const noexcept { return cluster.plan; }
  const protocols::cluster_spec& spec() const noexcept { return cluster.spec; }
  std::chrono::milliseconds ms(std::uint32_t of) const { return std::chrono::milliseconds{of}; }

  /// The newest process of the rank, which may have ended (`running`); null: none was started.
  process* at(protocols::rank_id rank) const { return ranks[rank.value].get(); }
  protocols::duration delay(protocols::duration mean);
  /// Until the way from one rank to another is free.
  protocols::duration held_up(protocols::rank_id from, protocols::rank_id to) const;
  void heal();

  void begin();
  /// A new process of the rank; the one before has ended.
  process& make_process(protocols::rank_id rank, protocols::generation born, protocols::cache_epoch epoch);
  /// The ranks of that generation of a cell.
  std::shared_ptr<cell_company> company_of(const protocols::cell_plan& cell, protocols::generation born);
  void on_ready();
  void on_exit(process& rank, protocols::rank_end end);
  void on_drained(process& front);

  sim_cluster cluster;
  weather sky;
  const weather began_with;
  const bool stormy; ///< of the weather that it began with
  draw dice;
  time_line time;
  history past;
  checks judge;
  service_checks service;
  std::vector<std::shared_ptr<process>> ranks;
  std::vector<std::shared_ptr<process>> all_processes; ///< also those that have ended
  std::map<std::pair<protocols::cell_id, protocols::generation>, std::shared_ptr<cell_company>> companies;
  std::unique_ptr<clients> users;
  std::unique_ptr<supervisor> boss;
  std::optional<protocols::rank_id> torn; ///< a rank that states another model than the rest
  protocols::time_point healed_at = protocols::time_point::max();
  protocols::duration gap{}; ///< between two questions, around
  bool floods = false;       ///< many small questions at once
  bool told_to_stop = false; ///< while questions came, when it was ready
  /// Until when nothing passes from one rank to another.
  std::map<std::pair<protocols::rank_id, protocols::rank_id>, protocols::time_point> walls;
  std::vector<std::function<void()>> at_healing;

private:
  bool was_ready_ = false;
};

} // namespace troupe::sim
