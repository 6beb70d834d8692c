#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <caf/all.hpp>

#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/fault.hpp"
#include "protocols/limits.hpp"

namespace troupe::actors {

/// The actors of one rank's roles, each from the moment that it is published.
/// A role needs the lanes of its cell's groups, so lanes are made before roles. A peer that is further ahead therefore
/// sends to a role that is not published yet. Its messages wait here and are delivered in order when the role is
/// published; beyond the bounds they are dropped, with an error and a count.
/// Rejected: to break the edge. That blamed a rank for being quick, and failed 21 of 29 starts with many encode cells.
/// Rejected: peers that wait for each other's roles. That adds a step to every start, for a wait of milliseconds.
/// Contract: K12; limits::early_messages_max, limits::early_bytes_max.
/// Threads: any. Once a role is published, one atomic load finds its actor.
class role_table {
public:
  struct bounds {
    std::size_t messages = protocols::limits::early_messages_max; ///< of one role
    std::size_t bytes = protocols::limits::early_bytes_max;
  };

  role_table() = default;
  explicit role_table(bounds most) : most_(most) {}

  /// At most once a role. The actor gets the messages that waited for it before any later one.
  void publish(protocols::role_kind role, caf::actor actor);

  /// Null until it is published.
  const caf::actor* find(protocols::role_kind role) const noexcept;

  /// Sends the message, or keeps it for the role; `bytes`: its size on the wire. Errors: queue_full, with how many were
  /// dropped.
  template <class Message>
  protocols::result<void> tell(protocols::role_kind role, Message what, std::size_t bytes) {
    if (const auto* const actor = find(role)) {
      caf::anon_send(*actor, std::move(what));
      return {};
    }
    return keep(role, bytes,
                [what = std::move(what)](const caf::actor& actor) mutable { caf::anon_send(actor, std::move(what)); });
  }

  /// A copy to every role that is published.
  template <class Message>
  void tell_all(const Message& what) const {
    for (const auto& one : places_)
      if (one.here.load(std::memory_order_acquire))
        caf::anon_send(one.actor, what);
  }

  std::uint64_t dropped() const noexcept { return dropped_.load(std::memory_order_relaxed); }

private:
  using delivery = std::function<void(const caf::actor&)>;
  struct place {
    std::atomic<bool> here = false; ///< stored with release order after `actor` was set
    caf::actor actor;
    std::vector<delivery> waiting; ///< guarded by `mutex_`, as `bytes`
    std::size_t bytes = 0;
  };

  protocols::result<void> keep(protocols::role_kind role, std::size_t bytes, delivery what);

  bounds most_;
  std::mutex mutex_;
  std::array<place, protocols::roles_max> places_; ///< by role
  std::atomic<std::uint64_t> dropped_ = 0;
};

} // namespace troupe::actors
