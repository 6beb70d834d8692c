#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/life_machine.hpp"
#include "tests/sim/process.hpp"
#include "tests/sim/rank_main.hpp"

namespace troupe::sim {

/// The supervisor: `life_machine`, and processes that are spawned, killed and reaped as it says.
class supervisor {
public:
  explicit supervisor(world& all);

  void start();
  void hear(process& from, life_report what);
  /// The process has ended; the supervisor sees it in its time.
  void on_exit(process& rank, protocols::rank_end end);
  void stop(const std::string& reason);

  protocols::life_machine::state current() const { return life_.current(); }
  const std::optional<protocols::life_machine::cluster_ended>& ended() const noexcept { return ended_; }
  bool was_ready() const noexcept { return was_ready_; }
  std::size_t recoveries() const noexcept { return recoveries_; }

private:
  void spawn(protocols::rank_id rank, protocols::generation born);
  void send(protocols::rank_id to, life_order what);
  void take(protocols::rank_id from, const life_report& what);
  void perform(const protocols::life_machine::effects& what);
  void watch_time();

  world& all_;
  protocols::life_machine life_;
  std::vector<protocols::time_point> to_rank_;   ///< arrival of the newest order, by rank
  std::vector<protocols::time_point> from_rank_; ///< of the newest report, by rank
  std::vector<protocols::liveness_judge> pulses_;
  std::vector<bool> running_;
  std::optional<protocols::life_machine::cluster_ended> ended_;
  bool was_ready_ = false;
  std::size_t recoveries_ = 0;
};

} // namespace troupe::sim
