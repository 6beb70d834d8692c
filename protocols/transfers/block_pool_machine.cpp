#include "protocols/transfers/block_pool_machine.hpp"

#include <string>

#include "protocols/limits.hpp"

namespace troupe::protocols {

block_pool_machine::block_pool_machine(std::uint32_t blocks) : reserved_(blocks, false) {
  for (std::uint32_t block = 0; block < blocks; ++block)
    free_.emplace_back(block);
}

result<std::vector<block_index>> block_pool_machine::reserve(std::uint32_t count) {
  const keeps_invariants checked{*this};
  if (count > free_.size())
    return protocols::fail(fault::no_memory, std::to_string(count) + " KV blocks are needed, of " +
                                                 std::to_string(size()) + " there are " + std::to_string(available()) +
                                                 " free");
  const auto end = free_.begin() + count;
  std::vector<block_index> blocks(free_.begin(), end);
  free_.erase(free_.begin(), end);
  for (const auto block : blocks)
    reserved_[block.value] = true;
  lent_ += count;
  return blocks;
}

result<void> block_pool_machine::release(std::span<const block_index> blocks) {
  const keeps_invariants checked{*this};
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto block = blocks[i].value;
    if (block < size() && reserved_[block]) {
      reserved_[block] = false;
      continue;
    }
    for (const auto undone : blocks.first(i))
      reserved_[undone.value] = true;
    return protocols::fail(fault::illegal_transition,
                           "KV block " + std::to_string(block) + " of " + std::to_string(size()) + " is not reserved");
  }
  free_.insert(free_.end(), blocks.begin(), blocks.end());
  lent_ -= static_cast<std::uint32_t>(blocks.size());
  return {};
}

void block_pool_machine::check_invariants() const noexcept {
  TROUPE_ASSERT("K3", available() + lent_ == size());
}

} // namespace troupe::protocols
