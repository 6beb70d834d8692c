#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "protocols/serve/step_machine.hpp"
#include "tests/sim/process.hpp"

namespace troupe::sim {

class executor;

/// One call of a cell: its plan, and which of its ranks have entered.
struct cell_call {
  protocols::mesh_plan plan;
  std::vector<bool> entered;
  bool computing = false;
  bool over = false;
  std::uint64_t seen = 0; ///< of everything that it reads, when all had entered
};

/// The ranks of a cell, of one generation: what collectives join.
struct cell_company {
  std::vector<executor*> members;
  std::map<protocols::call_id, cell_call> calls;
};

/// The executor of one cell on one rank: takes orders, steps as `step_machine` says, computes over the simulated
/// memory. Threads: the rank's thread of these steps.
class executor {
public:
  executor(process& rank, const protocols::cell_plan& cell, std::uint32_t steps_ahead);

  void join(std::shared_ptr<cell_company> company);
  /// From here on it steps: every rank of the cell is ready.
  void run();
  /// Leader: an order of its role.
  template <class Order>
  void order(Order what);
  void set(const protocols::room_admission& known) { board_[known.room] = known.status; }
  void forget(const protocols::room_forgotten& gone) { board_.erase(gone.room); }
  /// A rank of the cell has ended: what is waited for with it does not come.
  void lose(protocols::rank_id member);
  bool idle() const noexcept { return !call_ && orders_.empty(); }
  void look();

  process& rank;
  const protocols::cell_plan& cell;
  const std::uint32_t place;

private:
  friend class forward;
  struct sequence { ///< in the running batch
    protocols::request_id request;
    protocols::token_id newest = 0;
    std::uint32_t context = 0;
    std::vector<protocols::block_index> blocks;
    std::uint64_t sampling = 0; ///< its `sampling_word`
  };

  bool leads() const noexcept { return place == 0; }
  bool runs_ = false;
  void announce(const protocols::mesh_plan& plan);
  void check_wanted(const protocols::mesh_plan& plan);
  void hear_plan(const std::vector<std::byte>& bytes);
  void fail(const protocols::failure& cause);
  void suffer(executor& who, protocols::failure what);
  void hang(protocols::call_id id, executor& who);
  void begin(const protocols::mesh_plan& plan);
  void enter(const protocols::mesh_plan& plan);
  void finish(protocols::call_id call);
  void done(const protocols::mesh_plan& plan);
  void obey_orders();

  const gpu::models::kv_layout layout_;
  const area pool_;
  protocols::step_machine machine_;
  std::shared_ptr<cell_company> company_;
  std::deque<std::function<protocols::result<protocols::step_machine::effects>()>> orders_;
  std::deque<protocols::mesh_plan> plans_; ///< follower: announced, not begun
  std::optional<protocols::call_id> call_; ///< under way
  protocols::step_outcome outcome_;
  std::map<protocols::room_id, protocols::admission> board_;
  std::vector<std::optional<sequence>> batch_;
  std::set<protocols::request_id> steps_for_;                                          ///< as the plans say; leader
  std::deque<std::vector<std::pair<std::uint32_t, protocols::token_id>>> uncollected_; ///< steps of the running batch
};

} // namespace troupe::sim
