#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "runtime/base/assert.hpp"

namespace troupe::fabric {

/// A bounded first-in first-out whose storage is made once: posting a write allocates nothing.
/// Threads: the owner's lock.
template <class Entry>
class transfer_queue {
public:
  explicit transfer_queue(std::size_t size_max) : entries_(size_max) {}

  bool empty() const noexcept { return size_ == 0; }
  bool full() const noexcept { return size_ == entries_.size(); }
  std::size_t size() const noexcept { return size_; }

  void push(Entry entry) {
    TROUPE_ASSERT("transfer_queue", !full());
    entries_[(first_ + size_++) % entries_.size()] = std::move(entry);
  }
  Entry& front() noexcept { return entries_[first_]; }
  Entry pop() {
    TROUPE_ASSERT("transfer_queue", !empty());
    Entry entry = std::exchange(entries_[first_], Entry{});
    first_ = (first_ + 1) % entries_.size();
    --size_;
    return entry;
  }

private:
  std::vector<Entry> entries_;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

} // namespace troupe::fabric
