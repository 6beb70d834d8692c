#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "actors/rank_context.hpp"
#include "actors/rank_program.hpp"
#include "fabric/lanes/connect.hpp"
#include "fabric/lanes/wire.hpp"
#include "fabric/transfers/transfer.hpp"
#include "gpu/group.hpp"
#include "protocols/cluster/edge_machine.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/wire/edge_messages.hpp"

namespace troupe::cluster {

/// Everything that one rank consists of, built step by step as the supervisor says (joined, agreed, grouped, warm,
/// ready): sockets and memory first, the model next, then edges and groups with the others, then the actors.
/// Contract: B1, B3, B20, I23, I25.
/// Threads: the rank's main thread. Errors of each step end the rank.
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
  std::optional<protocols::rank_id> unreached() const;

  /// Where the main thread says that it is at work.
  base::progress_counter watch_main_thread() { return context_.turns->claim("the rank's main thread stands still"); }
  /// Every thread that waits for work turns at least so often: well within what the watchdog allows (K13).
  std::chrono::milliseconds nap() const noexcept override;

  const std::string& device() const noexcept override { return device_; } ///< once opened

private:
  using lane_name = protocols::lane_name;

  bool has_model() const noexcept { return !context_.spec.model_path.empty(); }
  /// A stub has no memory, no transfers and nothing to load.
  bool works() const { return context_.plan_of_self().role != protocols::role_kind::stub; }

  std::string transfer_socket(protocols::rank_id rank) const {
    return run_directory_ + "/t" + std::to_string(rank.value) + ".sock";
  }

  protocols::result<void> read_model();
  protocols::result<void> open_transfers();
  void start_watchdog();
  // What the program may ask of its rank.
  caf::actor_system& system() override { return *system_; }
  std::size_t devices_of(std::span<const protocols::rank_id> ranks) const override;
  protocols::result<actors::cell_groups> join(const protocols::cell_plan& cell,
                                              const std::function<protocols::result<void>()>& load,
                                              protocols::time_point deadline) override; // rank_groups.cpp
  protocols::result<void> send_to_front(protocols::message_type type, std::span<const std::byte> payload,
                                        protocols::time_point deadline) override;
  protocols::result<void> check_files() const override;
  void drained() override { calls_.on_drained(); }

  // rank_memory.cpp
  protocols::result<void> register_regions();
  protocols::result<void> check_device_room(const std::vector<actors::wanted_region>& wanted) const;
  protocols::result<void> check_host_room(const std::vector<actors::wanted_region>& wanted) const;
  protocols::result<void> find_device();
  protocols::result<void> give_device(gpu::group& group);
  /// GPUs that these have between them.
  std::set<std::string> devices_among(std::span<const protocols::rank_id> ranks) const;
  void warn_of_turns(const gpu::group& group) const;
  protocols::result<void> attach_memory(const std::set<protocols::rank_id>& with, protocols::time_point deadline,
                                        const std::function<bool()>& urgent = {});
  protocols::result<void> attach_transfers(protocols::rank_id peer, protocols::time_point deadline);
  protocols::result<void> announce_regions(const std::set<protocols::rank_id>& to);
  protocols::result<void> attach_regions(const std::set<protocols::rank_id>& of, protocols::time_point deadline,
                                         const std::function<bool()>& urgent);
  /// Until `here` holds, under `mutex_`. Errors: timeout, cancelled (`urgent` says that there is something newer).
  protocols::result<void> await(std::unique_lock<std::mutex>& lock, protocols::time_point deadline,
                                const std::function<bool()>& urgent, const std::function<bool()>& here);
  std::vector<std::pair<protocols::rank_id, std::string>> writers_of_mine() const; ///< who writes which region here
  std::vector<std::pair<protocols::rank_id, std::string>> written_by_me() const;

  // rank_edges.cpp
  /// Notes that an edge to the peer was not made. Returns `cause`.
  protocols::failure at_edge_with(protocols::rank_id peer, protocols::failure cause);
  protocols::time_point edge_deadline(protocols::rank_id peer, protocols::time_point deadline) const;
  protocols::result<void> make_lanes(const protocols::roster& everybody, protocols::time_point deadline);
  void make_links();
  bool begins(const lane_name& which) const;
  protocols::result<void> validate_hello(const fabric::edge& between, const protocols::hello& said) const;
  void note_begun(const fabric::edge& between, const protocols::hello& said);
  protocols::result<std::unique_ptr<fabric::lane>> take_lane(const lane_name& which, protocols::time_point deadline,
                                                             const std::function<bool()>& urgent = {});
  void adopt(const lane_name& which, std::unique_ptr<fabric::lane> lane);
  void on_incoming(fabric::incoming lane);
  protocols::result<void> on_control_frame(protocols::rank_id peer, const protocols::frame_view& frame);
  std::size_t find_room_for_clients() const;
  void on_client(base::unique_fd socket, bool crowded);

  actors::rank_context context_;
  events calls_;
  fabric::identity identity_;
  std::string run_directory_;
  std::string spec_digest_;
  protocols::endpoint endpoint_;
  std::vector<protocols::endpoint> everybody_;

  std::unique_ptr<fabric::listener> listener_;
  std::string device_;                                   ///< "cpu", "cuda:1"
  unsigned device_count_ = 0;                            ///< of the GPUs of this machine
  std::shared_ptr<fabric::device_memory> device_memory_; ///< null on the cpu
  std::unique_ptr<fabric::transfer_engine> transfers_;
  protocols::parity_fact files_;         ///< of the model folder, from before the first was read
  std::atomic<std::size_t> clients_ = 0; ///< whose links the wire holds
  std::size_t clients_max_ = 0;          ///< constant once clients are accepted
  fabric::wire wire_;

  mutable std::mutex mutex_; ///< guards what the wire's thread hands to the main thread while edges are made
  std::condition_variable arrived_;
  std::map<lane_name, std::unique_ptr<fabric::lane>> lanes_;
  protocols::edge_machine edges_; ///< guarded too
  std::map<std::pair<protocols::rank_id, std::string>, protocols::region_card> announced_;

  std::map<lane_name, fabric::wire::key> wired_; ///< lanes that the wire drives
  std::vector<fabric::wire::peer_signs> signs_;  ///< by rank
  std::unique_ptr<fabric::lane> token_lane_;     ///< decode leader's executor to the front

  std::unique_ptr<actors::rank_program> program_; ///< before the actors, which use it until they end
  caf::actor_system_config config_;
  std::unique_ptr<caf::actor_system> system_;
  bool stopping_ = false;
};

} // namespace troupe::cluster
