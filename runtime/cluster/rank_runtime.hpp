#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "actors/rank_context.hpp"
#include "actors/rank_program.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "runtime/cluster/rank_clients.hpp"
#include "runtime/cluster/rank_device.hpp"
#include "runtime/cluster/rank_edges.hpp"
#include "runtime/cluster/rank_groups.hpp"
#include "runtime/cluster/rank_memory.hpp"

namespace troupe::cluster {

/// Everything that one rank consists of, built step by step as the supervisor says (joined, agreed, grouped, warm,
/// ready): sockets and memory first, the model next, then edges and groups with the others, then the actors.
/// Edges, memory, groups and clients are objects of their own. This one owns them, the program and the actor system,
/// and knows the order in which each step concerns them. Contract: B1, B3, B20, I23, I25. Threads: the rank's main
/// thread. Errors of each step end the rank.
class rank_runtime final : private actors::rank_services {
public:
  struct events {
    std::function<void(const protocols::failure& cause, const std::string& where)> on_failure; ///< any thread
    /// The wire's thread; of the peer's present generation only.
    std::function<void(protocols::rank_id peer, const protocols::failure& cause)> on_peer_gone;
    std::function<void()> on_drained; ///< the front's thread
  };

  rank_runtime(const protocols::launch& start, protocols::cluster_spec spec, protocols::cluster_plan plan,
               protocols::rank_id self, std::string spec_digest, events calls);
  ~rank_runtime();
  rank_runtime(const rank_runtime&) = delete;
  rank_runtime& operator=(const rank_runtime&) = delete;

  /// Listens and registers memory. Errors: config_invalid.
  protocols::result<protocols::endpoint> open();
  /// Maps the model and states what every rank must agree on. Errors: config_invalid.
  protocols::result<std::vector<protocols::parity_fact>> facts();
  /// Makes every edge and group of the plan, loads this rank's shards, starts the actors. Errors: timeout, peer_gone,
  /// config_invalid.
  protocols::result<void> group(const protocols::roster& everybody, protocols::time_point deadline);
  /// Runs every collective and shape once, in step with the cell.
  protocols::result<void> warm();
  /// Takes requests from here on.
  protocols::result<void> serve();
  /// Front: takes nothing new; `on_drained` follows. Other ranks serve until the front has left.
  void drain();
  /// Some ranks have died: drops every lane to them, and tells the roles. No older generation of them is heard again.
  /// Errors: bad_value.
  protocols::result<void> lose(const protocols::lost& news);
  /// Makes this side's half of the edges to a new generation: takes the lanes that its ranks connect, attaches memory.
  /// `urgent` ends the wait: the supervisor has something newer to say. Errors: timeout, peer_gone, cancelled.
  protocols::result<void> rejoin(const protocols::rejoin& order, const std::function<bool()>& urgent);
  /// Front: cells that were lost serve again.
  void on_recovered(const protocols::recovered& news);
  /// Leaders tell their members, threads end, sockets close.
  void stop();

  /// Who stood in the way when `group` or `rejoin` failed: the other end of the edge that could not be made.
  std::optional<protocols::rank_id> unreached() const { return edges_.unreached(); }

  /// Where the main thread says that it is at work.
  base::progress_counter watch_main_thread() { return context_.turns->claim("the rank's main thread stands still"); }
  /// What this rank counts, and what it knows of the others.
  const actors::rank_context& context() const noexcept { return context_; }
  /// Every thread that waits for work turns at least so often: well within what the watchdog allows (K13).
  std::chrono::milliseconds nap() const noexcept override;

  const std::string& device() const noexcept override { return device_.name(); } ///< once opened
  /// Where the door listens, once opened; empty: this rank has none.
  std::string http_address() const;

private:
  bool has_model() const noexcept { return !context_.spec.model_path.empty(); }
  /// A stub has no memory, no transfers and nothing to load.
  bool works() const { return context_.plan_of_self().role != protocols::role_kind::stub; }

  protocols::result<void> read_model();
  void make_links();
  protocols::result<void> open_door(); // rank_door.cpp
  void start_watchdog();
  // What the program may ask of its rank.
  caf::actor_system& system() override { return *system_; }
  std::size_t devices_of(std::span<const protocols::rank_id> ranks) const override {
    return device_.among(ranks).size();
  }
  protocols::result<actors::cell_groups> join(const protocols::cell_plan& cell,
                                              const std::function<protocols::result<void>()>& load,
                                              protocols::time_point deadline) override {
    return groups_.join(cell, load, deadline);
  }
  protocols::result<void> send_to_front(protocols::message_type type, std::span<const std::byte> payload,
                                        protocols::time_point deadline) override;
  protocols::result<void> check_files() const override;
  void drained() override { calls_.on_drained(); }

  events calls_;
  std::string run_directory_;
  std::string spec_digest_;
  protocols::parity_fact files_; ///< of the model folder, from before the first was read

  actors::rank_context context_;
  rank_device device_;
  rank_edges edges_;
  rank_memory memory_;
  rank_groups groups_;
  std::optional<rank_clients> clients_; ///< the front's, once it serves

  std::unique_ptr<door::door> door_;              ///< null: none
  std::unique_ptr<actors::rank_program> program_; ///< before the actors, which use it until they end
  caf::actor_system_config config_;
  std::unique_ptr<caf::actor_system> system_;
  bool stopping_ = false;
};

} // namespace troupe::cluster
