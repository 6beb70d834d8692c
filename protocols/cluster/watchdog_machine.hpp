#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/cluster/liveness_judge.hpp"
#include "protocols/flight/flight.hpp"
#include "protocols/ids.hpp"

namespace troupe::protocols {

/// Judges one rank from the inside: whether its threads make progress, and whether its peers are heard. A separate
/// thread, which begins before the watchdog, watches the supervisor (runtime/cluster/supervisor_pulse.hpp).
/// "No traffic", "no progress" and "idle" are told apart:
/// - A peer is silent when nothing at all comes from it.
/// - A thread is wedged when it computes and completes nothing.
/// - A thread that waits for orders or for a peer is not at fault: the peer has a watchdog of its own, and a collective
///   has a deadline.
/// - A thread that is still inside a collective `progress_ms` after that deadline is wedged as well: its peers may have
///   done their part, and then none of them complains.
///
/// Contract: C4, C12, C41, C43.
/// Threads: the watchdog's. No call allocates after construction, since a wedged thread may hold the allocator's lock.
class watchdog_machine {
public:
  struct thread_view {
    bool computes = false;      ///< in the middle of work that it can finish without a peer
    bool waits = false;         ///< in the middle of a collective, which has a deadline
    std::uint64_t progress = 0; ///< grows with what it completes
  };
  struct peer_view {
    rank_id rank;
    bool linked = false;     ///< there is a lane, and the peer has not closed it
    generation born;         ///< of the peer at the other end: a successor is not judged by its predecessor's silence
    std::uint64_t heard = 0; ///< changes with every frame from it
  };
  struct view {
    std::span<const thread_view> threads;
    std::span<const peer_view> peers;
    std::uint64_t wire_turns = 0; ///< of the thread that drives the lanes
  };

  enum class trouble : std::uint8_t {
    wedged,      ///< `subject` is the place of a thread: this rank leaves
    waits_long,  ///< as `wedged`, of a thread that is still inside a collective
    wire_wedged, ///< this rank leaves
    peer_silent, ///< `subject` is a peer's rank: the supervisor is told
  };
  struct finding {
    trouble what{};
    std::uint32_t subject = 0;
    generation born; ///< of a peer that is silent
    duration since{};
  };

  watchdog_machine(const cluster_spec::timeouts_section& timeouts, std::size_t threads_max,
                   std::span<const rank_id> peers);

  /// The worst trouble, or nothing. A peer that stays silent is reported again after another silence of that length,
  /// since the supervisor may have excused the first one.
  std::optional<finding> on_sample(const view& now_seen, time_point now) noexcept;

private:
  struct peer_watch {
    rank_id rank;
    liveness_judge judge;
    generation born{};
  };

  struct thread_watch {
    liveness_judge computing;
    liveness_judge waiting;
  };

  std::vector<thread_watch> threads_;
  std::vector<peer_watch> peers_; ///< in the order given
  liveness_judge wire_;
};

/// "waits in all_reduce_sum of group decode.0, call 17", with the peer where there is one. Written to `into`, so that
/// nothing is allocated; cut where it is too short. `group`: its name.
std::string_view collective_words(const flight_record& in, std::string_view group, std::span<char> into) noexcept;

} // namespace troupe::protocols
