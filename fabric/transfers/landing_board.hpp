#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "fabric/transfers/transfer.hpp"

namespace troupe::fabric {

/// Where what peers were granted belongs in a device's memory, by who writes it and with which completion data.
/// Over a lane that reaches no device's memory the bytes land beside it (staged_engine), and the word that they have
/// does not say where. Who grants knows, and says so here before the peer hears of the grant.
/// Each landing is taken once: of a word that comes again, or of a room that has ended, nothing is copied, since the
/// device may have written there meanwhile.
/// Contract: D11, I24.
/// Ownership: whoever expects something forgets it when the room ends, which is what bounds the board.
/// Threads: any; held for a few instructions, never in a decode step.
class landing_board {
public:
  struct landing {
    std::uint32_t region = 0;
    std::vector<write_piece> pieces; ///< of that region; both offsets are the same
  };

  void expect(protocols::rank_id from, std::uint64_t completion_data, landing where) {
    const std::lock_guard lock{mutex_};
    expected_.insert_or_assign({completion_data, from}, std::move(where));
  }
  /// From all writers.
  void forget(std::uint64_t completion_data) {
    const std::lock_guard lock{mutex_};
    std::erase_if(expected_, [&](const auto& each) { return each.first.first == completion_data; });
  }
  std::optional<landing> take(protocols::rank_id from, std::uint64_t completion_data) {
    const std::lock_guard lock{mutex_};
    auto found = expected_.extract({completion_data, from});
    return found.empty() ? std::nullopt : std::optional{std::move(found.mapped())};
  }

private:
  std::mutex mutex_;
  std::map<std::pair<std::uint64_t, protocols::rank_id>, landing> expected_;
};

} // namespace troupe::fabric
