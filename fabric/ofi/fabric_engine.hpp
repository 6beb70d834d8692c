#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "fabric/ofi/fabric_session.hpp"
#include "fabric/region_memory.hpp"
#include "fabric/transfer_engine_base.hpp"
#include "fabric/transfer_pieces.hpp"
#include "fabric/transfer_queue.hpp"

namespace troupe::fabric {

/// The data plane between hosts: one-sided writes over a libfabric RDM endpoint.
///
/// The pieces of a write are posted side by side, and the last of them, which carries the completion data, only when
/// all others are delivered: no order between two writes is promised by every provider (an EFA endpoint sprays), and
/// the target must not be told of bytes that are still on their way. A write of one piece costs no extra round trip.
///
/// A transfer that passes its deadline fails, but libfabric still owns its operations, and may still read the source
/// and write the target: they are quarantined, out of their peer's pool, until it gives them back or the endpoint is
/// closed; the source and target slots must be quarantined by the caller for the same reason. Every peer has its own
/// pool, so one that is stopped takes nothing from the others.
///
/// libfabric says only that a write failed, and one failure drops the connection with all that is in flight to that
/// peer. So a failure is followed by a probe, a write of no bytes: if that fails too, or is not delivered in time,
/// the peer is gone; otherwise the failed transfers were all, and the next ones, held back meanwhile, go on.
/// A peer that dies while nothing flows to it, or before the first connection to it, is noticed by a write's deadline:
/// the provider connects silently for ever. The lanes notice it sooner.
/// Contract: I22, I23, I25, I26, I31, E10, J12, C31, C47.
/// Threads: after `start`, libfabric is called by the engine's own thread only; `mutex_` guards what the interface
/// shares with it. Events are called without it, and must not call `attach_peer` or `stop`, which wait for that thread.
class fabric_engine final : public transfer_engine_base {
public:
  static protocols::result<std::unique_ptr<transfer_engine>> create(fabric_options options);
  ~fabric_engine() override;

  bulk_kind kind() const noexcept override { return bulk_kind::fabric; }
  protocols::result<local_region> register_region(std::size_t bytes, memory_kind kind) override;
  std::vector<std::byte> address() const override { return address_; }
  protocols::result<void> attach_peer(const protocols::endpoint& peer, protocols::time_point deadline) override;
  protocols::result<void> attach_region(protocols::rank_id peer, const protocols::region_card& card) override;
  protocols::result<void> post(write_request request, ready_event source_ready) override;

private:
  /// Writes of one peer that are worked on side by side, and operations that libfabric holds for them.
  static constexpr std::size_t active_max = 16;
  static constexpr std::size_t operations_max = 64;

  struct peer;

  struct region {
    region_memory memory; ///< outlives its registration
    fabric_registration registration;
  };

  /// A write that was taken; its place is used again when it is finished.
  struct transfer {
    write_request request;
    peer* to = nullptr; ///< none: this rank itself
    const region* source = nullptr;
    std::byte* own_target = nullptr; ///< of a write to this rank itself
    protocols::region_card remote;   ///< of any other
    piece_walk walk;
    std::optional<piece_walk::step> ahead; ///< taken from the walk and not posted yet
    std::size_t in_flight = 0;             ///< operations
    bool is_whole = false;                 ///< all steps were posted
  };

  /// What libfabric owns while a write is under way. `context` comes first: its address is what comes back.
  struct operation {
    fi_context2 context{};
    peer* to = nullptr;
    transfer* of = nullptr; ///< none: a probe, or a transfer that was given up
    bool is_probe = false;
  };

  /// Never freed before the endpoint is closed: libfabric may still own its operations.
  struct peer {
    protocols::rank_id rank;
    protocols::generation born;
    fi_addr_t address = FI_ADDR_UNSPEC;
    std::map<std::uint32_t, protocols::region_card> regions; ///< guarded by `mutex_`
    // the engine's thread's own
    std::vector<operation> operations;
    std::vector<operation*> idle;
    transfer_queue<transfer*> waiting;
    std::vector<transfer*> active; ///< at most active_max
    struct probe_state {
      protocols::failure cause;
      protocols::time_point until;
      bool posted = false;
    };
    std::optional<probe_state> probe;
    bool gone = false;
    bool refused = false; ///< libfabric said "again" in this turn

    bool awaits_something() const noexcept { return !active.empty() || !waiting.empty() || probe; }

    peer(const protocols::endpoint& from, fi_addr_t at, std::size_t queue_max);
  };

  /// A peer that `attach_peer` wants; the engine's thread enters its address.
  struct joining {
    protocols::endpoint from;
    std::optional<protocols::result<void>> outcome;
  };

  fabric_engine(fabric_options options, std::unique_ptr<fabric_session> session, std::vector<std::byte> address,
                transfer_bell bell);

  // ---- the engine's thread ----
  void run() noexcept override;
  void take_joining();
  bool take_posted();
  bool copy_own();
  bool issue();
  bool advance(transfer& write);
  void post_probe(peer& to);
  operation* take_operation(peer& to, transfer* of) noexcept;
  bool reap();
  void on_completion(const fabric_session::completion& done);
  void on_failure(peer& to, const protocols::failure& cause, int error);
  void expire();
  void drop(transfer& write, const protocols::failure& cause);
  void finish(transfer& write, protocols::result<void> outcome);
  void fail_all(peer& to, const protocols::failure& cause);
  void lose(peer& to, const protocols::failure& cause);
  void rest(bool worked);

  const fabric_options options_;
  const std::vector<std::byte> address_;

  // Guarded by `mutex_`.
  std::map<protocols::rank_id, peer*> peers_;
  std::vector<joining*> joining_;
  std::vector<transfer> transfers_; ///< all there will ever be
  std::vector<transfer*> idle_;
  transfer_queue<transfer*> posted_;

  // The engine's thread's own, once started. Destroyed from the end: the session closes the endpoint, then peers and
  // regions go.
  std::vector<std::unique_ptr<region>> regions_; ///< a region's id is its place, from 1; fixed once started
  std::vector<std::unique_ptr<peer>> everybody_;
  transfer_queue<transfer*> own_;
  std::unique_ptr<fabric_session> session_;
  bool refused_ = false;         ///< some peer is refused
  protocols::time_point moved_;  ///< last time that a completion or bytes came
  protocols::time_point looked_; ///< last time that deadlines were looked at
};

} // namespace troupe::fabric
