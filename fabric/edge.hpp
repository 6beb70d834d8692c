#pragma once

#include "protocols/fault.hpp"
#include "protocols/wire/frame.hpp"

namespace troupe::fabric {

/// Who the two ends of a lane are, agreed in the hello, and in which epoch they speak; stands in every frame of the
/// lane and is judged in each. `serve` has one epoch, the first; a frame of another was made for a world that is not
/// there. Contract: A21, A22, D2.
struct edge {
  protocols::rank_id self;
  protocols::generation self_born;
  protocols::rank_id peer;
  protocols::generation peer_born;
  protocols::cache_epoch epoch{};

  /// `header` as it leaves this end.
  protocols::frame_header stamp(protocols::frame_header header, std::uint64_t sequence,
                                std::size_t payload_bytes) const noexcept;

  /// Errors: wrong_rank, stale_generation, stale_epoch, wrong_sequence, each with what was expected.
  protocols::result<void> judge(const protocols::frame_header& header, std::uint64_t expected_sequence) const;
};

} // namespace troupe::fabric
