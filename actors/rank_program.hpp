#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <caf/all.hpp>

#include "actors/rank_context.hpp"
#include "fabric/transfers/transfer.hpp"
#include "gpu/group.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/time.hpp"
#include "runtime/door/door.hpp"

/// The part of a program that does something, on one rank. What it only states stands in protocols/cluster/program.hpp.
namespace troupe::actors {

/// Memory that a rank registers for the length of its life.
struct wanted_region {
  std::string purpose;
  std::uint32_t slots = 0;
  std::uint64_t slot_bytes = 0;
  fabric::memory_kind kind = fabric::memory_kind::host;
};

/// The groups of a cell that this rank is a member of.
struct cell_groups {
  std::shared_ptr<gpu::group> cell;       ///< null for a cell of one rank
  std::shared_ptr<gpu::group> mesh;       ///< of this rank's stage; null where it has one rank
  std::optional<gpu::plan_channel> plans; ///< over the lanes of `cell`
};

/// What a rank does for its program. Threads: the rank's main thread, but where it says otherwise.
class rank_services {
public:
  virtual caf::actor_system& system() = 0;
  /// "cpu", "cuda:1".
  virtual const std::string& device() const = 0;
  /// The longest time that a thread may wait for work before it reports progress (K13).
  virtual std::chrono::milliseconds nap() const = 0;
  /// Different devices that these ranks compute on.
  virtual std::size_t devices_of(std::span<const protocols::rank_id> ranks) const = 0;
  /// Joins the groups of a cell, in the order of the plan on every member (B26). `load` runs while the newest group is
  /// being joined. Errors: those of lanes and collectives, and of `load`.
  virtual protocols::result<cell_groups> join(const protocols::cell_plan& cell,
                                              const std::function<protocols::result<void>()>& load,
                                              protocols::time_point deadline) = 0;
  /// A frame on the lane from this leader's executor to the front. The executor's thread. Errors: timeout, peer_gone.
  virtual protocols::result<void> send_to_front(protocols::message_type type, std::span<const std::byte> payload,
                                                protocols::time_point deadline) = 0;
  /// Whether the model's files are still those that this rank stated (K11). Errors: config_invalid.
  virtual protocols::result<void> check_files() const = 0;
  /// The front has nothing left to do after a drain. Any thread.
  virtual void drained() = 0;

protected:
  ~rank_services() = default;
};

/// One rank of a program: its roles' actors, executors and memory. A rank calls `regions`, `weights`,
/// `transfer_events`, `facts`, `load`, `warm` and `serve` in this order, and `stop` last. It calls the others when
/// their event occurs. A stub has a program too, and calls nothing of it. An error ends the rank, but for those of a
/// client's frame. Threads: the rank's main thread, but where it says otherwise.
class rank_program {
public:
  virtual ~rank_program() = default;

  /// Regions that this rank registers. The device is known.
  virtual std::vector<wanted_region> regions() const = 0;
  /// What this rank loads to its device in addition to its regions: a description and a size in bytes for each part.
  /// Errors: config_invalid.
  virtual protocols::result<std::vector<std::pair<std::string, std::uint64_t>>> weights() const = 0;
  /// Callbacks for the transfer engine. They are called from any thread, also before `load` and after `stop`.
  virtual fabric::transfer_events transfer_events() = 0;
  /// A frame of a peer's control lane. The wire's thread. Errors: those of the codec; unknown_type for a frame that is
  /// no message of the program's roles.
  virtual protocols::result<void> accept_frame(const protocols::frame_view& frame) = 0;
  /// What all ranks must agree on beside what the runtime states. Errors: config_invalid.
  virtual protocols::result<std::vector<protocols::parity_fact>> facts() = 0;
  /// Groups, shards, executors, actors.
  virtual protocols::result<void> load(protocols::time_point deadline) = 0;
  /// Every collective and shape once, in step with the cell.
  virtual protocols::result<void> warm() = 0;
  /// Work may come from here on.
  virtual void serve() = 0;
  /// Front only: takes nothing new, and calls `rank_services::drained` when it has finished what it has.
  virtual void drain() = 0;
  /// Ranks have died.
  virtual void lose(const protocols::lost& news) = 0;
  /// The old processes of these ranks have been reaped. `bytes_may_arrive`: a network card may still deliver bytes that
  /// they handed to it.
  virtual void writers_gone(const std::set<protocols::rank_id>& ranks, bool bytes_may_arrive) = 0;
  /// Front only: lost cells serve again.
  virtual void recover(const protocols::recovered& news) = 0;
  /// Front only. The wire's thread. Errors: those of the codec; unknown_type. The client is let go.
  virtual protocols::result<void> accept_client_frame(fabric::link_queues::key client,
                                                      const protocols::frame_view& frame) = 0;
  /// Front only. The wire's thread.
  virtual void client_gone(fabric::link_queues::key client) = 0;
  /// Front only: encodes why a client is refused at the door, in the program's own words to clients.
  virtual std::pair<protocols::message_type, std::vector<std::byte>> refusal(const protocols::failure& why) const = 0;
  /// Front only: what it does over HTTP; none: no door is opened. After `regions` and before `load`; `at` lives until
  /// `stop` has returned, and its requests come from then on, before `serve` too.
  virtual std::vector<door::route> routes(door::door&) { return {}; }
  virtual bool has_routes() const { return false; }
  /// Stops the executors. A leader announces the stop to the other ranks of its cell.
  virtual void stop() = 0;
};

/// `rank` and `services` outlive what is made.
using rank_program_factory = std::unique_ptr<rank_program> (*)(rank_context& rank, rank_services& services);

/// Null: no program of that name is built in or was added.
rank_program_factory find_rank_program(std::string_view program) noexcept;

/// Beside `protocols::add_program`: before the first rank is made, by the main thread.
void add_rank_program(std::string_view program, rank_program_factory factory);

} // namespace troupe::actors
