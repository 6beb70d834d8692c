#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/quarantine.hpp"
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
  /// The request ended with writes possibly in flight, of `writers` (empty: of anybody). Errors: as `release`.
  result<void> fail(std::span<const block_index> blocks, time_point now, const std::vector<rank_id>& writers = {});
  /// Ends the rests that are due.
  void tick(time_point now);
  /// Ends the rests that were for these ranks alone: nothing that they have begun can still arrive.
  void on_writers_gone(std::span<const rank_id> gone);

  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(reserved_.size()); }
  std::uint32_t available() const noexcept { return static_cast<std::uint32_t>(free_.size()); }
  std::uint32_t resting() const noexcept { return resting_.size(); }

private:
  /// Takes all of `blocks` out of `reserved_`, or none.
  result<void> end_reservation(std::span<const block_index> blocks);

  std::vector<bool> reserved_; ///< by block
  std::deque<block_index> free_;
  quarantine<block_index> resting_;
};

} // namespace troupe::protocols
