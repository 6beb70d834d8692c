#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fabric/lanes/lane.hpp"
#include "gpu/device_collectives.hpp"
#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/fault.hpp"
#include "protocols/flight/flight.hpp"
#include "protocols/mesh/collective_kind.hpp"
#include "protocols/mesh/collective_plan_machine.hpp"
#include "protocols/time.hpp"

/// Collectives. All of them go through `group`, the one wrapper that names its group and is checked against the plan of
/// the step before the collective library is entered (B8, B9, A25). What carries them out is a backend: lanes between
/// hosts' memories here, NCCL on a device.
namespace troupe::gpu {

using protocols::collective_kind;

/// The lanes of one group, driven by the executor thread alone: by member, empty at this rank's own place.
/// The plan channel and the host collectives share them: a plan and the collectives that it announces arrive in order.
struct group_lanes {
  protocols::group_plan plan;
  std::uint32_t self = 0; ///< group-rank of this rank
  std::vector<std::unique_ptr<fabric::lane>> to;
};

/// Leader (group-rank 0) to members: what the next step is. Never a mailbox (DESIGN decision 3).
class plan_channel {
public:
  explicit plan_channel(std::shared_ptr<group_lanes> lanes);

  /// Leader only. Errors: peer_gone, timeout.
  protocols::result<void> announce(protocols::call_id call, std::span<const std::byte> plan,
                                   protocols::time_point deadline);
  /// Member only; the bytes are copied into `plan`, whose capacity is reused. Errors: peer_gone, timeout (a tick: ask
  /// again).
  protocols::result<void> await(std::vector<std::byte>& plan, protocols::time_point deadline);

private:
  std::shared_ptr<group_lanes> lanes_;
};

/// What carries out the collectives of one group. Same order and same sizes on every member, checked by `group`.
class collective_backend {
public:
  virtual ~collective_backend() = default;
  /// The call that the next collectives belong to, for messages and for the comparison between members.
  virtual void begin_call(protocols::call_id) noexcept {}
  /// Sums in member order, so that every member gets the same bits.
  virtual protocols::result<void> all_reduce_sum(std::span<float> values, protocols::time_point deadline) = 0;
  virtual protocols::result<void> all_reduce_min(std::span<std::int32_t> values, protocols::time_point deadline) = 0;
  /// `all` holds size() pieces of mine.size(), in member order.
  virtual protocols::result<void> all_gather(std::span<const float> mine, std::span<float> all,
                                             protocols::time_point deadline) = 0;
  virtual protocols::result<void> broadcast(std::span<std::byte> bytes, std::uint32_t root,
                                            protocols::time_point deadline) = 0;
  /// Point to point between members, for pipeline stages: the sender and the receiver call the two sides.
  virtual protocols::result<void> send(std::uint32_t to, std::span<const std::byte> bytes,
                                       protocols::time_point deadline) = 0;
  virtual protocols::result<void> receive(std::uint32_t from, std::span<std::byte> bytes,
                                          protocols::time_point deadline) = 0;
};

/// Collectives over the lanes of the group, directly between all pairs (groups on hosts are small), in pieces, so that
/// a lane's bound holds. Sending and receiving are interleaved over all members and no lane is waited for alone:
/// messages larger than what a lane holds cannot lock two members up, and the end of any member ends the collective at
/// once. Every piece carries group, kind, count and call; a member that is in another collective fails with
/// plan_mismatch, one that took another group's lanes for these with wrong_group; both name both sides (B19, B30).
std::unique_ptr<collective_backend> make_host_backend(std::shared_ptr<group_lanes> lanes);

/// The wrapper. Every collective that it lets through is noted in the flight recorder, when it is entered and when it
/// is left (B8). Members go by their group-rank, a plain number; a rank's id is of a type of its own and cannot be
/// passed for one (B7).
/// Threads: the executor that owns the group, which issues the collectives of all of its groups one after another, so
/// that no two of them, and no hop beside one, overlap on a rank (B21, B22, B24). Errors of every collective:
/// wrong_group, plan_mismatch, not_a_member, illegal_transition for a second thread (nothing was entered); timeout,
/// peer_gone.
class group {
public:
  group(protocols::group_plan plan, std::uint32_t self, std::unique_ptr<collective_backend> backend,
        protocols::duration deadline);

  const protocols::group_plan& plan() const noexcept { return plan_; }
  std::uint32_t self() const noexcept { return self_; }
  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(plan_.members.size()); }

  /// A step begins that will issue exactly `expected` collectives on this group (A24, B30); a hop counts on both sides.
  /// Errors: illegal_transition inside a step; plan_mismatch when `call` is older than the last one.
  protocols::result<void> begin(protocols::call_id call, std::string_view phase, std::uint32_t expected);
  /// Errors: plan_mismatch when fewer were issued.
  protocols::result<void> end();
  /// Since the group was made.
  std::uint64_t issued() const noexcept { return plan_check_.issued_total(); }

  /// From here on tensors of a device go this way; before the first of them. Those of the host go through the backend.
  void give_device(std::unique_ptr<device_collectives> collectives) { device_ = std::move(collectives); }
  /// Ends what joining them has left under way: before the next group is joined, and before the first step.
  protocols::result<void> settle(protocols::time_point deadline) {
    return device_ ? device_->settle(deadline) : protocols::result<void>{};
  }
  collective_backend& backend() noexcept { return *backend_; }
  /// Whether a step with collectives of this group can be captured.
  bool capturable() const noexcept { return device_ && device_->capturable(); }

  /// Members, a bit each, for whom this rank's device says that it waits in a collective. Asks nothing of the device.
  std::uint32_t awaited() const noexcept { return device_ ? device_->awaited() : 0; }

  /// Sums a contiguous f32 tensor, in `on`'s order: what follows on the stream reads the sum.
  protocols::result<void> all_reduce_sum(stream& on, const tensor_view& values);
  /// Adds that sum to `to`, of the same shape; `values` hold something else afterwards.
  protocols::result<void> all_reduce_add(stream& on, const tensor_view& values, const tensor_view& to);
  /// to (contiguous f32 [m, n]) += the sum over the members of a product that is cut along its columns.
  protocols::result<void> add_product(const operations& run, stream& on, const partial_product& part,
                                      const tensor_view& to);
  /// `mine` [rows, columns] of every member beside each other, into `all` [rows, members x columns].
  protocols::result<void> all_gather(stream& on, const tensor_view& mine, const tensor_view& all);
  /// A hop of a contiguous f32 tensor, in `on`'s order.
  protocols::result<void> send(stream& on, const tensor_view& values, std::uint32_t to);
  protocols::result<void> receive(stream& on, const tensor_view& values, std::uint32_t from);

  protocols::result<void> all_reduce_sum(std::span<float> values);
  protocols::result<void> all_reduce_min(std::span<std::int32_t> values);
  protocols::result<void> all_gather(std::span<const float> mine, std::span<float> all);
  protocols::result<void> broadcast(std::span<std::byte> bytes, std::uint32_t root);
  protocols::result<void> send(std::uint32_t to, std::span<const std::byte> bytes);
  protocols::result<void> receive(std::uint32_t from, std::span<std::byte> bytes);

private:
  /// Lets `act(deadline)` enter the backend once the collective has been checked.
  template <class Act>
  protocols::result<void> issue(collective_kind kind, std::size_t count, protocols::rank_id peer, Act act);
  /// `member` is the root or the other side. Errors: not_a_member, and those of `issue`.
  template <class Act>
  protocols::result<void> issue_with(collective_kind kind, std::size_t count, std::uint32_t member, Act act);

  protocols::group_plan plan_;
  std::uint32_t self_;
  std::unique_ptr<collective_backend> backend_;
  std::unique_ptr<device_collectives> device_; ///< null where tensors are the host's
  protocols::duration deadline_;
  protocols::collective_plan_machine plan_check_;
  protocols::flight_phase phase_{};
  std::vector<float> gathered_; ///< of hosts' tensors; its capacity stays
  std::atomic_flag entered_;    ///< a thread is inside
  std::uint32_t of_all_ = 0; ///< collectives of all members, since the group was made: the same number on each of them
};

} // namespace troupe::gpu
