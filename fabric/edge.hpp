#pragma once

#include "protocols/fault.hpp"
#include "protocols/wire/frame.hpp"

namespace troupe::fabric {

/// Who the two ends of a lane are, and in which epoch they have begun it, agreed in the hello; stands in every frame of
/// the lane and is checked in each. A lane of typed messages between two ranks lasts while others are lost: its frames
/// name the epoch in which their sender decided to send them, that of the edge or a later one (epoch_fence.hpp). Every
/// other lane lives in one epoch. Contract: A21, A22, D2, D8.
struct edge {
  protocols::rank_id self;
  protocols::generation self_born;
  protocols::rank_id peer;
  protocols::generation peer_born;
  protocols::cache_epoch epoch{}; ///< in which the edge was begun
  bool spans_epochs = false;      ///< frames of later epochs may follow

  /// Whether a frame may leave this end: one that was decided before the edge was begun is meant for the process that
  /// had the peer's place before. Errors: stale_epoch.
  protocols::result<void> admit(const protocols::frame_header& header) const;
  /// `header` as it leaves this end. A header that names no epoch gets the edge's.
  protocols::frame_header stamp(protocols::frame_header header, std::uint64_t sequence,
                                std::size_t payload_bytes) const noexcept;

  /// Errors: wrong_rank, stale_generation, stale_epoch, wrong_sequence, each with what was expected.
  protocols::result<void> judge(const protocols::frame_header& header, std::uint64_t expected_sequence) const;
};

} // namespace troupe::fabric
