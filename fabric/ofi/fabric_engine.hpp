#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "fabric/ofi/fabric_listener.hpp"
#include "fabric/ofi/fabric_session.hpp"
#include "fabric/transfers/region_memory.hpp"
#include "fabric/transfers/transfer_engine_base.hpp"
#include "fabric/transfers/transfer_pieces.hpp"
#include "fabric/transfers/transfer_queue.hpp"
#include "protocols/transfers/way_machine.hpp"
#include "protocols/transfers/write_course.hpp"

namespace troupe::fabric {

/// The data plane between hosts: one-sided writes over libfabric connections, one from each writer to each peer that it
/// writes to, made when the first write waits.
///
/// A connection is made in three steps (fabric_listener.hpp): the writer knocks at the peer's door, the door lets
/// exactly its address through to libfabric's port, and libfabric's request carries a proof; nothing that comes another
/// way reaches libfabric, so whatever completes here was written by a peer that knows the job's token (which of them,
/// it says itself). A newer generation of a peer takes the place of an older one, whose connection is closed then: what
/// it had written and not told of is heard of no more.
///
/// The pieces of a write are posted side by side, and the last of them, which carries the completion data, only when
/// all others are delivered: no order between two writes is promised by every provider, and the target must not be told
/// of bytes that are still on their way. A write of one piece costs no extra round trip.
///
/// A transfer that passes its deadline fails, but libfabric still owns its operations, and may still read the source
/// and write the target: they are quarantined, out of their peer's pool, until it gives them back or the connection is
/// closed; the source and target slots must be quarantined by the caller for the same reason. Every peer has its own
/// pool, so one that is stopped takes nothing from the others.
///
/// A write's lease is asked before each operation is handed over. When it has ended, what libfabric has already is
/// waited for, so that after stale_grant nothing arrives any more.
///
/// One failure ends the connection with all that is in flight on it. The transfers fail, and the writer knocks again:
/// if nobody listens there, or none comes to be within `trouble_patience`, the peer is gone; otherwise the next writes,
/// held back meanwhile, go on. A peer that dies while nothing is to be written to it is noticed with the next write;
/// the lanes notice it sooner.
/// Contract: I22, I23, I25, I26, I31, E10, J12, C31, C47, K1, K5.
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
  protocols::result<void> attach_region(protocols::rank_id peer, const protocols::region_card& card,
                                        protocols::time_point deadline) override;
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
    protocols::write_course course;
  };

  /// What libfabric owns while a write is under way. `context` comes first: its address is what comes back.
  struct operation {
    fi_context2 context{};
    peer* to = nullptr;
    transfer* of = nullptr;       ///< none: the transfer was given up
    std::uint64_t connection = 0; ///< which of the peer's it went over
  };

  /// How far a connection to a peer has come, and what it is made of.
  struct way {
    protocols::way_machine life;
    std::optional<fabric_knock> knock; ///< while it is knocking
    fabric_connection connection;      ///< while it is connecting or open
    std::uint64_t number = 0;          ///< of the connection, or of the last one
  };

  /// Never freed before its connections are closed: libfabric may still own its operations.
  struct peer {
    protocols::rank_id rank;
    protocols::generation born;
    protocols::endpoint at;
    socket_address door;
    std::map<std::uint32_t, protocols::region_card> regions; ///< guarded by `mutex_`
    // the engine's thread's own
    std::vector<operation> operations;
    std::vector<operation*> idle;
    transfer_queue<transfer*> waiting;
    std::vector<transfer*> active; ///< at most active_max
    way there;
    bool refused = false; ///< libfabric said "again" in this turn

    bool awaits_something() const noexcept { return !active.empty() || !waiting.empty() || there.life.has_trouble(); }

    peer(const protocols::endpoint& from, socket_address door, std::size_t queue_max);
  };

  /// Who was told to come, and has not come yet.
  struct expected_guest {
    fabric_guest who;
    protocols::time_point until;
  };

  /// A connection that a peer has made.
  struct visit {
    protocols::generation born;
    fabric_connection connection;
  };

  /// A peer that `attach_peer` wants; the engine's thread enters its address.
  struct joining {
    protocols::endpoint from;
    std::optional<protocols::result<void>> outcome;
  };

  fabric_engine(fabric_options options, std::unique_ptr<fabric_session> session, fabric_listener door,
                transfer_doorbell doorbell);

  /// Contract: K1. Errors: stale_grant.
  static protocols::result<void> lease_holds(const write_request& request, const peer* to);
  /// Whether a write that has not begun goes on. Errors: timeout, stale_grant.
  static protocols::result<void> validate(const write_request& request, const peer* to, protocols::time_point now);

  // ---- the engine's thread ----
  void run() noexcept override;
  void take_joining();
  bool take_posted();
  bool copy_own();
  bool issue();
  bool advance(transfer& write);
  operation* take_operation(peer& to, transfer* of) noexcept;
  bool reap();
  void on_completion(const fabric_session::completion& done);
  void conclude(transfer& write);
  void expire();
  void drop(transfer& write, const protocols::failure& cause);
  void finish(transfer& write, protocols::result<void> outcome);
  void fail_all(peer& to, const protocols::failure& cause);
  void lose(peer& to, const protocols::failure& cause);
  void rest(bool worked);

  // ---- connections, on the engine's thread (fabric_engine_connections.cpp) ----
  void step_connections();
  void answer_door(protocols::time_point now);
  protocols::result<void> expect(fabric_guest guest, protocols::time_point until);
  protocols::result<void> admit_expected();
  protocols::generation lowest_of(protocols::rank_id rank);
  void take_event(fabric_session::event happened);
  void take_request(const fabric_session::event& asked);
  void close_visits_before(protocols::rank_id rank, protocols::generation born);
  void reach(peer& to, protocols::time_point now);
  void begin_knock(peer& to, protocols::time_point now);
  void step_knock(peer& to, protocols::time_point now);
  void give_up_try(peer& to, protocols::time_point now);
  void lose_connection(peer& to, const protocols::failure& cause, bool in_use = true);
  bool connections_move() const;
  void close_connections() noexcept;

  const fabric_options options_;
  const fabric_identity identity_;
  const std::vector<std::byte> address_;

  // Guarded by `mutex_`.
  std::map<protocols::rank_id, peer*> peers_;
  std::vector<joining*> joining_;
  std::vector<transfer> transfers_; ///< all there will ever be
  std::vector<transfer*> idle_;
  transfer_queue<transfer*> posted_;

  // The engine's thread's own, once started. The thread's end closes all connections; then regions, the session and
  // peers go.
  std::vector<std::unique_ptr<region>> regions_; ///< a region's id is its place, from 1; fixed once started
  std::vector<std::unique_ptr<peer>> everybody_;
  transfer_queue<transfer*> own_;
  std::unique_ptr<fabric_session> session_;
  fabric_listener door_;
  std::vector<expected_guest> expected_; ///< one a rank, at most port_filter::sources_max
  std::map<protocols::rank_id, visit> visits_;
  std::vector<pollfd> watched_;
  bool look_now_ = false;        ///< something happened at the door or on a connection
  bool refused_ = false;         ///< some peer is refused
  protocols::time_point moved_;  ///< last time that a completion or bytes came
  protocols::time_point looked_; ///< last time that deadlines and connections were looked at
};

} // namespace troupe::fabric
