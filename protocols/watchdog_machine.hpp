#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "protocols/cluster_spec.hpp"
#include "protocols/ids.hpp"
#include "protocols/pulse_judge.hpp"

namespace troupe::protocols {

/// Judges one rank from the inside: whether its own threads get on, whether its peers are heard. Its supervisor is
/// watched from before there is a watchdog, by a thread of its own (runtime/cluster/supervisor_pulse.hpp).
/// "No traffic", "no progress" and "idle" are told apart: a peer is silent when nothing at all comes from it; a thread
/// is wedged when it computes and completes nothing; a thread that waits, for orders or for a peer, is nobody's fault
/// here, because whom it waits for has a watchdog of its own, and a collective has a deadline. One that is still inside
/// a collective when that deadline has passed and `progress_ms` more is wedged as well: its peers may have done their
/// part and miss nothing.
///
/// Contract: C4, C12, C41, C43.
/// Threads: the watchdog's. No call allocates after construction: what a wedged rank holds may be the allocator's lock.
class watchdog_machine {
public:
  struct thread_view {
    bool computes = false;      ///< in the middle of something that is its own to finish
    bool waits = false;         ///< in the middle of a collective, which has a deadline
    std::uint64_t progress = 0; ///< what it has completed
  };
  struct peer_view {
    rank_id rank;
    bool linked = false;     ///< there is a lane, and the peer has not closed it
    generation born;         ///< of the peer at the other end: a successor is not judged by its predecessor's silence
    std::uint64_t heard = 0; ///< changes with every frame of it
  };
  struct view {
    std::span<const thread_view> threads;
    std::span<const peer_view> peers;
    std::uint64_t wire_turns = 0; ///< of the thread that drives the lanes
  };

  enum class trouble : std::uint8_t {
    wedged,      ///< `subject` is the place of a thread: this rank leaves
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

  /// The worst of what is wrong. A peer that stays silent is named again after as long a silence: whoever was told may
  /// have known an excuse.
  std::optional<finding> on_look(const view& now_seen, time_point now) noexcept;

private:
  struct peer_watch {
    rank_id rank;
    pulse_judge judge;
    generation born{};
  };

  struct thread_watch {
    pulse_judge computing;
    pulse_judge waiting;
  };

  std::vector<thread_watch> threads_;
  std::vector<peer_watch> peers_; ///< in the order given
  pulse_judge wire_;
};

} // namespace troupe::protocols
