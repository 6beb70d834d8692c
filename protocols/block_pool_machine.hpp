#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// A fixed number of KV blocks, reserved for a request all at once or not at all.
/// A request that held some blocks and waited for more would deadlock with another that does the same. As with slots,
/// blocks into which a failed transfer may still write rest before they are lent again, and those that have been free
/// longest go first.
/// Contract: F13, I24, I27.
class block_pool_machine {
public:
  explicit block_pool_machine(std::uint32_t blocks);

  /// Errors: no_memory, and nothing is reserved.
  result<std::vector<block_index>> reserve(std::uint32_t count);
  /// Errors: illegal_transition when one of `blocks` is not reserved (or stands twice), and nothing changes.
  result<void> release(std::span<const block_index> blocks);
  /// The request ended with writes possibly in flight. Errors: as `release`.
  result<void> fail(std::span<const block_index> blocks, time_point now);
  /// Ends the rests that are due.
  void tick(time_point now);

  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(reserved_.size()); }
  std::uint32_t available() const noexcept { return static_cast<std::uint32_t>(free_.size()); }
  std::uint32_t resting() const noexcept { return static_cast<std::uint32_t>(quarantine_.size()); }

private:
  /// Takes all of `blocks` out of `reserved_`, or none.
  result<void> end_reservation(std::span<const block_index> blocks);

  struct rest {
    block_index block;
    time_point until;
  };

  std::vector<bool> reserved_; ///< by block
  std::deque<block_index> free_;
  std::deque<rest> quarantine_; ///< in the order in which they end
};

} // namespace troupe::protocols
