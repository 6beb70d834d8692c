#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "fabric/lanes/spin_budget.hpp"
#include "fabric/transfers/shared_region.hpp"
#include "fabric/transfers/transfer_engine_base.hpp"
#include "fabric/transfers/transfer_listener.hpp"
#include "fabric/transfers/transfer_pieces.hpp"
#include "fabric/transfers/transfer_queue.hpp"

namespace troupe::fabric {

/// The data plane between ranks of one host.
/// A region is a memfd that a peer maps once; a write is a copy by the writer's engine thread and then one word in the
/// peer's completion ring. The target's thread takes no part in the copy. Between each two engines stands one socket:
/// it carries the hello (job token, rank, generation), the descriptors, and by its end the news of a peer's death.
/// Rejected: process_vm_writev (one system call a write, and it needs ptrace rights over the peer).
/// Contract: I22, I23, I25, I26, I31, E10, J12.
/// Threads: the engine's own thread copies, talks to sockets and calls events; `mutex_` guards what the interface
/// shares with it. Events are called without it, and must not call `attach_*` or `stop`, which wait for that thread.
class shared_memory_engine final : public transfer_engine_base {
public:
  static protocols::result<std::unique_ptr<transfer_engine>> create(shared_memory_options options);
  ~shared_memory_engine() override;

  bulk_kind kind() const noexcept override { return bulk_kind::shared_memory; }
  protocols::result<local_region> register_region(std::size_t bytes, memory_kind kind) override;
  std::vector<std::byte> address() const override { return {}; }
  protocols::result<void> attach_peer(const protocols::endpoint& peer, protocols::time_point deadline) override;
  protocols::result<void> attach_region(protocols::rank_id peer, const protocols::region_card& card,
                                        protocols::time_point deadline) override;
  protocols::result<void> post(write_request request, ready_event source_ready) override;

private:
  /// A write that was taken.
  struct accepted {
    write_request request;
    const std::byte* source = nullptr;
    std::byte* target = nullptr;
    peer_pointer to; ///< none: this rank itself
    piece_walk walk;
    bool on_device = false;                     ///< both ends
    device_reach reach{};                       ///< of the target
    std::shared_ptr<const device_event> behind; ///< from when on the device may read the source
    std::optional<protocols::time_point> begun; ///< when the device was told
  };

  shared_memory_engine(shared_memory_options options, listening_socket listening, transfer_doorbell doorbell);

  protocols::result<shared_region> make_region(std::size_t bytes, memory_kind kind) const;
  protocols::result<shared_region> open_region(const transfer_note& described, base::unique_fd file) const;

  /// Contract: K1. Errors: stale_grant.
  static protocols::result<void> lease_holds(const protocols::lease& held, const peer_pointer& to);

  // ---- the engine's thread ----
  void run() noexcept override;
  bool take_arrived();
  protocols::result<bool> take_arrived(transfer_peer& from);
  bool work_on_writes();
  bool is_over(accepted& write);
  /// Whether the write that is under way is whole; lowers `budget` by what was copied here.
  protocols::result<bool> copy(accepted& write, std::uint64_t& budget);
  bool publish(accepted& write);
  bool publish_waiting();
  void finish(accepted& write, protocols::result<void> outcome);
  void fail_all(const transfer_peer* of, const protocols::failure& cause);
  void watch(bool busy);
  bool waits_long_for_device() const;
  bool spin();
  bool arm();
  void disarm();
  void adopt_joining();
  void adopt(peer_pointer joined);
  void read_notes(const peer_pointer& from);
  void lose(const peer_pointer& left, const protocols::failure& cause);

  const shared_memory_options options_;
  std::vector<shared_region> regions_; ///< a region's id is its place, from 1; fixed once started

  // Guarded by `mutex_`.
  std::map<protocols::rank_id, peer_pointer> peers_;
  std::vector<peer_pointer> joining_; ///< connected by `attach_peer`, for the engine's thread to adopt
  transfer_queue<accepted> posted_;
  std::size_t unfinished_ = 0; ///< taken, and `on_delivered` not called yet; at most queue_max

  // The engine's thread's own.
  transfer_listener door_;
  std::vector<peer_pointer> live_; ///< what `peers_` holds
  std::optional<accepted> copying_;
  std::unique_ptr<device_copies> device_copies_;
  transfer_queue<accepted> unpublished_; ///< copied, but the peer's ring had no room
  std::vector<pollfd> watched_;
  spin_budget spin_budget_;
};

} // namespace troupe::fabric
