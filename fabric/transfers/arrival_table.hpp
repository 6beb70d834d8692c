#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "fabric/transfers/transfer.hpp"
#include "protocols/transfers/expected_arrivals.hpp"

namespace troupe::fabric {

/// Where what peers were granted belongs in a device's memory, as `expected_arrivals`, for several threads.
/// Over a lane that reaches no device's memory the bytes arrive beside it (staged_engine), and the word that they have
/// does not say where. Who grants knows, and says so here before the peer hears of the grant.
/// Contract: D11, I24.
/// Ownership: whoever expects something forgets it when the room ends, which is what bounds the table.
/// Threads: any; held for a few instructions, never in a decode step.
class arrival_table {
public:
  struct arrival {
    std::uint32_t region = 0;
    std::vector<write_piece> pieces; ///< of that region; both offsets are the same
  };

  void expect(protocols::rank_id from, std::uint64_t completion_data, arrival where) {
    const std::lock_guard lock{mutex_};
    expected_.expect(from, completion_data, std::move(where));
  }
  /// From all writers.
  void forget(std::uint64_t completion_data) {
    const std::lock_guard lock{mutex_};
    expected_.forget(completion_data);
  }
  std::optional<arrival> take(protocols::rank_id from, std::uint64_t completion_data) {
    const std::lock_guard lock{mutex_};
    return expected_.take(from, completion_data);
  }

private:
  std::mutex mutex_;
  protocols::expected_arrivals<arrival> expected_;
};

} // namespace troupe::fabric
