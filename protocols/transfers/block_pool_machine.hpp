#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/invariant.hpp"

namespace troupe::protocols {

/// A fixed number of KV blocks, reserved for a request all at once or not at all.
/// A request that held some blocks and waited for more would deadlock with another that does the same. Blocks are
/// released when nobody can write into them any more (lent_rooms.hpp). Those that have been free longest go first.
/// Invariant, asserted before and after each event: free and reserved blocks are all that there are (K3).
/// Contract: F13, I27, K3.
class block_pool_machine {
public:
  explicit block_pool_machine(std::uint32_t blocks);

  /// Errors: no_memory, and nothing is reserved.
  result<std::vector<block_index>> reserve(std::uint32_t count);
  /// Errors: illegal_transition when one of `blocks` is not reserved (or stands twice), and nothing changes.
  result<void> release(std::span<const block_index> blocks);

  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(reserved_.size()); }
  std::uint32_t available() const noexcept { return static_cast<std::uint32_t>(free_.size()); }

private:
  friend class keeps_invariants<block_pool_machine>;
  void check_invariants() const noexcept;
  void show_states(state_view& view) const;
  std::vector<bool> reserved_; ///< by block
  std::uint32_t lent_ = 0;     ///< of these, true
  std::deque<block_index> free_;
};

} // namespace troupe::protocols
