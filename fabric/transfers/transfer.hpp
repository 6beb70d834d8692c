#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/fault.hpp"
#include "protocols/time.hpp"
#include "protocols/transfers/lease.hpp"
#include "protocols/wire/edge_messages.hpp"
#include "runtime/base/progress_counter.hpp"

/// The data plane: tensors move by one-sided writes between regions that are registered once for the life of a rank.
///
/// A write to this rank itself is a copy and the same two events, so that roles in one rank need no other path.
/// Vocabulary: register a region, prepare (attach the peer's card), post a write, learn of its end. What stands in a
/// region and when it may be written is not known here: slots, generations and grants are machines in `protocols/`.
/// Contract: I22, I23, I25, I26, I31, E10.
namespace troupe::fabric {

class device_event;
class device_memory;

enum class memory_kind : std::uint8_t { host, device };

/// Memory of this rank that peers write (or that this rank writes from), page-aligned, zeroed, never grown.
/// Ownership: the engine that made it; valid until the engine is destroyed.
struct local_region {
  std::uint32_t id = 0;       ///< of this rank
  std::span<std::byte> bytes; ///< of a device: its addresses
  memory_kind kind = memory_kind::host;
  protocols::region_card card; ///< what a peer needs; `slot_bytes` is the maker's to set
};

/// The moment from which a source may be read: on a CPU a value, on a device an event. A write cannot be posted
/// without one (DESIGN decision 7).
class ready_event {
public:
  /// The bytes were written by this thread, or handed to it, before now.
  static ready_event already() noexcept { return ready_event{nullptr}; }
  /// Written by what the device does before `moment`, which the write holds until its end; the device waits for it, no
  /// thread does (E12, E16). None: already.
  static ready_event behind(std::shared_ptr<const device_event> moment) noexcept {
    return ready_event{std::move(moment)};
  }

  const std::shared_ptr<const device_event>& moment() const noexcept { return moment_; }

private:
  explicit ready_event(std::shared_ptr<const device_event> moment) noexcept : moment_(std::move(moment)) {}

  std::shared_ptr<const device_event> moment_;
};

/// One contiguous piece of a write: `bytes` from `source_offset` of a local region to `target_offset` of the peer's.
struct write_piece {
  std::uint64_t source_offset = 0;
  std::uint64_t target_offset = 0;
  std::uint64_t bytes = 0;

  bool operator==(const write_piece&) const = default;
};

struct write_request {
  protocols::rank_id to;
  std::uint32_t source_region = 0;
  std::uint32_t target_region = 0;
  std::vector<write_piece> pieces;   ///< checked against both regions before anything is written
  std::uint64_t completion_data = 0; ///< what the peer's `on_arrived` gets, after all pieces are visible there; the low
                                     ///< 48 bits are the caller's, the rest is the engine's (who wrote)
  protocols::lease lease = {};       ///< of the target: asked when the write is posted and before each copy (K1)
  protocols::time_point deadline;
  std::uint64_t cookie = 0; ///< what this side's `on_delivered` gets
};

/// Called on the engine's own threads: hand the news on (a mailbox, an atomic), do not work here, and do not call
/// `attach_*` or `stop`, which wait for them (`post` is fine). All three are set.
struct transfer_events {
  /// Every piece is in the peer's memory, or the write failed (timeout, peer_gone, transfer_failed; stale_grant: its
  /// lease ended first). After a timeout or transfer_failed on the fabric lane, or in a device's memory, late bytes may
  /// still be read from the source and arrive at the target: quarantine both.
  std::function<void(std::uint64_t cookie, protocols::result<void> outcome)> on_delivered;
  /// A peer's write to this rank is complete and visible.
  std::function<void(protocols::rank_id from, std::uint64_t completion_data)> on_arrived;
  /// No transfer to or from this peer will complete any more.
  std::function<void(protocols::rank_id peer, protocols::failure cause)> on_peer_gone;
};

enum class bulk_kind { same_process, shared_memory, fabric };
std::string_view name(bulk_kind kind) noexcept;

/// One engine a rank and lane; owns one thread, which sleeps when nothing flows.
class transfer_engine {
public:
  virtual ~transfer_engine() = default;

  virtual bulk_kind kind() const noexcept = 0;

  /// Before `start`: each thread that moves bytes shows that it turns, also while nothing moves (K13).
  virtual void be_watched(const base::watching&) {}

  /// Before `start`. A write goes between regions of one kind. Errors: no_memory, transfer_failed (registration),
  /// config_invalid (this engine reaches no device's memory).
  virtual protocols::result<local_region> register_region(std::size_t bytes, memory_kind kind = memory_kind::host) = 0;

  /// Where peers knock (fabric/ofi/fabric_listener.hpp); empty for shared memory.
  virtual std::vector<std::byte> address() const = 0;

  /// From here on events are called.
  virtual protocols::result<void> start(transfer_events events) = 0;

  /// Makes a peer reachable, both ways; after `start`. Shared memory: `unix_path` is where the peer's engine listens
  /// (the lower rank connects, the higher waits for it). A newer generation of a peer takes the place of an older one.
  /// Errors: timeout, peer_gone, wrong_job, wrong_rank, stale_generation, transfer_failed (not a fabric address).
  virtual protocols::result<void> attach_peer(const protocols::endpoint& peer, protocols::time_point deadline) = 0;

  /// The peer's region, as its `region` message announced it; shared memory waits for the peer to hand it over.
  /// Errors: timeout (it did not), out_of_bounds (the card does not fit the region), transfer_failed, peer_gone,
  /// shutting_down.
  virtual protocols::result<void> attach_region(protocols::rank_id peer, const protocols::region_card& card,
                                                protocols::time_point deadline) = 0;

  /// Any thread. Takes the request or refuses it at once (queue_full, out_of_bounds: also a region that is not
  /// attached, peer_gone: also one that was never attached, stale_grant: the lease does not hold, bad_value: completion
  /// data above 48 bits or memory of two kinds, shutting_down); once taken, `on_delivered` is called exactly once. Two
  /// writes may be delivered in any order.
  virtual protocols::result<void> post(write_request request, ready_event source_ready) = 0;

  /// Fails what is in flight (transfer_failed), calls its events, ends the thread. Takes milliseconds.
  virtual void stop() noexcept = 0;
};

struct shared_memory_options {
  protocols::rank_id self;
  protocols::generation born;
  std::array<std::byte, 32> job_token{};
  std::string unix_path; ///< where this engine listens
  std::size_t queue_max = 4096;
  std::shared_ptr<device_memory> devices = nullptr; ///< for regions of a device's memory
};
/// Regions are memfds, or a device's memory that its handle opens; a peer maps them once. A write is a copy, then an
/// entry in the peer's completion ring.
protocols::result<std::unique_ptr<transfer_engine>> make_shared_memory_engine(shared_memory_options options);

struct fabric_options {
  protocols::rank_id self;
  protocols::generation born;
  std::array<std::byte, 32> job_token{};
  std::string provider = "tcp";
  std::string interface = "lo"; ///< the provider's domain: a network interface for tcp, a device for verbs; empty: any
  std::size_t queue_max = 4096;
};
/// libfabric connections (FI_EP_MSG) with delivery-complete writes and remote completion data, made only with peers
/// that have shown the job's token. Errors: config_invalid with the providers that are there. Sets FI_TCP_IFACE in the
/// environment, which libfabric reads at its first call in a process only: make the engine before threads that read the
/// environment, and use one interface in a process.
protocols::result<std::unique_ptr<transfer_engine>> make_fabric_engine(fabric_options options);

} // namespace troupe::fabric
