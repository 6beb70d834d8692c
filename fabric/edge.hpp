#pragma once

#include "protocols/fault.hpp"
#include "protocols/frame.hpp"

namespace troupe::fabric {

/// Who the two ends of a lane are, agreed in the hello; stands in every frame of the lane and is judged in each.
struct edge {
  protocols::rank_id self;
  protocols::generation self_born;
  protocols::rank_id peer;
  protocols::generation peer_born;

  /// `header` as it leaves this end.
  protocols::frame_header stamp(protocols::frame_header header, std::uint64_t sequence,
                                std::size_t payload_bytes) const noexcept;

  /// Errors: wrong_rank, stale_generation, wrong_sequence, each with what was expected.
  protocols::result<void> judge(const protocols::frame_header& header, std::uint64_t expected_sequence) const;
};

} // namespace troupe::fabric
