#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "actors/cluster_sight.hpp"
#include "actors/envelope.hpp"
#include "actors/role_table.hpp"
#include "fabric/lanes/link_queues.hpp"
#include "fabric/transfers/arrival_table.hpp"
#include "fabric/transfers/transfer.hpp"
#include "gpu/models/model.hpp"
#include "protocols/cluster/cluster_plan.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/counter_table.hpp"
#include "runtime/base/progress_counter.hpp"

namespace troupe::actors {

/// Regions that this rank writes, as their owners announced them. A region of a rank that has died stays until its next
/// generation announces another: what is written to it fails in the transfer engine, by name.
/// Threads: any; once a transfer, never in a decode step.
class peer_region_table {
public:
  void set(protocols::rank_id owner, const std::string& purpose, const protocols::region_card& card) {
    const std::lock_guard lock{mutex_};
    cards_[{owner, purpose}] = card;
  }
  protocols::region_card at(protocols::rank_id owner, const std::string& purpose) const {
    const std::lock_guard lock{mutex_};
    return cards_.at({owner, purpose});
  }

private:
  mutable std::mutex mutex_;
  std::map<std::pair<protocols::rank_id, std::string>, protocols::region_card> cards_;
};

/// What the actors of one rank share: made before the first of them runs and before the first lane of a peer is driven,
/// and constant after, but for `peer_regions` and `roles`, which any thread may use while they change.
/// Ownership: the rank; it outlives every actor. Threads: read by all; `fail_rank` from any.
struct rank_context {
  rank_context() = default;
  rank_context(protocols::cluster_spec of, protocols::cluster_plan made_of_it, protocols::rank_id rank,
               protocols::generation started, protocols::cache_epoch started_in)
      : spec(std::move(of)), plan(std::move(made_of_it)), self(rank), born(started), epoch(started_in) {}

  protocols::cluster_spec spec;
  protocols::cluster_plan plan;
  protocols::rank_id self;
  protocols::generation born; ///< of this process: the generation of all memory that it lends
  protocols::cache_epoch epoch = protocols::first_epoch; ///< of the job when this process was started
  gpu::models::model_facts facts;
  std::filesystem::path model;

  fabric::link_queues* wire = nullptr;
  fabric::transfer_engine* transfers = nullptr;
  std::shared_ptr<fabric::arrival_table> arrivals; ///< null where writes go straight to where they belong
  std::unique_ptr<base::progress_table> turns;
  std::unique_ptr<base::counter_table> counted = std::make_unique<base::counter_table>(); ///< of this rank
  std::unique_ptr<cluster_sight> sight;                                                   ///< the front's alone
  std::atomic<bool> captures = true; ///< what can be captured is; all ranks state it, a drill changes it

  std::map<protocols::rank_id, caf::actor> links;                     ///< to every peer of the plan
  std::unique_ptr<role_table> roles = std::make_unique<role_table>(); ///< of this rank
  std::map<std::string, fabric::local_region>
      regions; ///< by purpose: staging, pixels, tower, rows, kv.prefill, kv.decode
  peer_region_table peer_regions;

  std::function<protocols::time_point()> clock = base::now; ///< a test's own, where time goes by as it says

  /// The rank cannot go on: says why to the supervisor and leaves (C1). Returns; the caller stops what it does.
  std::function<void(const protocols::failure& cause, const std::string& where)> fail_rank;

  /// The role's actor is there before anything works for it.
  template <class Message>
  void tell_role(protocols::role_kind role, Message what) const {
    caf::anon_send(*roles->find(role), std::move(what));
  }

  /// What the actors of roles hand on to their machines.
  protocols::time_point now() const { return clock(); }

  const protocols::rank_plan& plan_of_self() const { return plan.rank(self); }
  bool on_device() const { return plan_of_self().device.kind != "cpu"; }
  /// The bulk lane reaches no GPU's memory: regions there have mirrors of the host
  /// (fabric/transfers/staged_engine.hpp).
  bool by_way_of_host() const { return on_device() && spec.lanes.bulk == protocols::bulk_lane::fabric; }
  protocols::duration step_max() const { return std::chrono::milliseconds{spec.timeouts.collective_ms}; }
};

/// Tells the role actors of what the data plane did.
fabric::transfer_events transfer_events_of(const rank_context& rank);

/// Counts the bytes that this rank's engine has taken, by kind and peer.
std::function<void(protocols::rank_id to, std::uint64_t completion_data, std::uint64_t bytes)>
count_transfers(const rank_context& rank);

/// The cookie of a write, from which `transfer_events_of` finds the actor.
std::uint64_t cookie_of(transfer_kind what, protocols::room_id room, std::uint32_t part) noexcept;

} // namespace troupe::actors
