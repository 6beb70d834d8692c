#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "fabric/region_memory.hpp"
#include "fabric/transfer.hpp"
#include "fabric/transfer_bell.hpp"
#include "fabric/transfer_pieces.hpp"
#include "fabric/transfer_queue.hpp"
#include "fabric/transfer_ring.hpp"
#include "fabric/transfer_socket.hpp"

namespace troupe::fabric {

/// The data plane between ranks of one host.
/// A region is a memfd that a peer maps once; a write is a copy by the writer's engine thread and then one word in the
/// peer's completion ring. The target's thread takes no part in the copy. Between each two engines stands one socket:
/// it carries the hello (job token, rank, generation), the descriptors, and by its end the news of a peer's death.
/// The lower rank connects, so that two ranks that want each other make one socket and not two.
/// Rejected: process_vm_writev (one system call a write, and it needs ptrace rights over the peer).
/// Contract: I22, I23, I25, I26, I31, E10, J12.
/// Threads: the engine's own thread copies, talks to sockets and calls events; `mutex_` guards what the interface
/// shares with it. Events are called without it, and must not call `attach_*` or `stop`, which wait for that thread.
class shared_memory_engine final : public transfer_engine {
public:
  static protocols::result<std::unique_ptr<transfer_engine>> create(shared_memory_options options);
  ~shared_memory_engine() override;

  bulk_kind kind() const noexcept override { return bulk_kind::shared_memory; }
  protocols::result<local_region> register_region(std::size_t bytes) override;
  std::vector<std::byte> address() const override { return {}; }
  protocols::result<void> start(transfer_events events) override;
  protocols::result<void> attach_peer(const protocols::endpoint& peer, protocols::time_point deadline) override;
  protocols::result<void> attach_region(protocols::rank_id peer, const protocols::region_card& card) override;
  protocols::result<void> post(write_request request, ready_event source_ready) override;
  void stop() noexcept override;

private:
  /// One engine that said hello. Rings, bell and socket are the engine thread's (a note may be sent under `mutex_` by
  /// others); the rest is guarded by `mutex_`. Lives on as long as a write into its memory does.
  struct peer {
    protocols::rank_id rank;
    protocols::generation born;
    base::unique_fd socket;
    transfer_ring incoming;
    transfer_ring outgoing;
    transfer_bell bell;
    std::map<std::uint32_t, region_memory> regions;                    ///< attached
    std::map<std::uint32_t, protocols::result<region_memory>> fetched; ///< answers that `attach_region` waits for
    std::optional<protocols::failure> gone;
  };
  using peer_pointer = std::shared_ptr<peer>;

  /// Connected, and has said nothing yet.
  struct newcomer {
    base::unique_fd socket;
    protocols::time_point until;
  };

  /// A write that was taken.
  struct accepted {
    write_request request;
    const std::byte* source = nullptr;
    std::byte* target = nullptr;
    peer_pointer to; ///< none: this rank itself
    piece_walk walk;
  };

  shared_memory_engine(shared_memory_options options, base::unique_fd listening, transfer_bell bell);

  // ---- any thread, in attach ----
  transfer_note note_of(note_kind kind, protocols::rank_id to, protocols::generation to_born) const;
  protocols::result<void> connect_peer(const protocols::endpoint& to, protocols::time_point deadline);
  protocols::result<peer_pointer> make_peer(const transfer_note& said, base::unique_fd socket, transfer_ring incoming,
                                            std::array<base::unique_fd, 2> files) const;
  bool is_attached(const protocols::endpoint& to) const;

  // ---- engine thread ----
  void run() noexcept;
  bool take_landed();
  bool take_landed(peer& from);
  bool work_on_writes();
  bool publish(accepted& write);
  bool publish_waiting();
  void finish(accepted& write, protocols::result<void> outcome);
  void fail_all(const peer* of, const protocols::failure& cause);
  void watch(bool busy);
  bool arm();
  void disarm();
  int sleep_ms() const;
  void adopt_joining();
  void adopt(peer_pointer joined);
  void accept_newcomers();
  void hear_newcomer(newcomer& who);
  protocols::result<void> judge_hello(const received_note& heard) const;
  void hear_peer(const peer_pointer& from);
  void answer_fetch(peer& to, std::uint32_t region);
  void lose(const peer_pointer& left, const protocols::failure& cause);

  const shared_memory_options options_;
  base::unique_fd listening_;
  const transfer_bell bell_;
  std::vector<region_memory> regions_; ///< id - 1 is the index; fixed once started
  transfer_events events_;
  std::thread thread_;

  mutable std::mutex mutex_;
  std::condition_variable changed_; ///< a peer joined or left, or a region was fetched
  std::map<protocols::rank_id, peer_pointer> peers_;
  std::vector<peer_pointer> joining_; ///< connected by `attach_peer`, for the engine thread to adopt
  transfer_queue<accepted> posted_;
  std::size_t unfinished_ = 0; ///< taken and not yet told `on_delivered`; at most queue_max
  bool asleep_ = false;
  bool started_ = false;
  bool stopping_ = false;

  // the engine thread's own
  std::vector<peer_pointer> live_; ///< what `peers_` holds
  std::vector<newcomer> newcomers_;
  std::optional<accepted> copying_;
  transfer_queue<accepted> unpublished_; ///< copied; the peer's ring had no room
  std::vector<pollfd> watched_;
};

} // namespace troupe::fabric
