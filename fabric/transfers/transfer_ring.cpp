#include "fabric/transfers/transfer_ring.hpp"

#include <algorithm>
#include <atomic>
#include <new>
#include <string>
#include <utility>

namespace troupe::fabric {

using protocols::fail;
using protocols::fault;
using protocols::result;

/// All zeros is an empty ring, and memory comes zeroed, so neither side has to set it up.
struct transfer_ring::shared {
  alignas(64) std::atomic<std::uint64_t> tail; ///< words ever pushed; the writer's
  alignas(64) std::atomic<std::uint64_t> head; ///< words ever popped; the reader's
  alignas(64) std::atomic<std::uint32_t> reader_asleep;
  alignas(64) std::atomic<std::uint32_t> room_wanted;
  alignas(64) std::array<std::uint64_t, capacity> words;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a lock would not be shared between processes");

transfer_ring::transfer_ring(region_memory memory) noexcept : memory_(std::move(memory)) {}

transfer_ring::shared& transfer_ring::at() const noexcept {
  return *std::launder(reinterpret_cast<shared*>(memory_.bytes().data()));
}

result<transfer_ring> transfer_ring::create() {
  return region_memory::create(sizeof(shared), "troupe-completions").map([](region_memory memory) {
    return transfer_ring{std::move(memory)};
  });
}

result<transfer_ring> transfer_ring::map(base::unique_fd file) {
  return region_memory::map(std::move(file), sizeof(shared)).map([](region_memory memory) {
    return transfer_ring{std::move(memory)};
  });
}

bool transfer_ring::push(std::uint64_t word) noexcept {
  shared& ring = at();
  const auto is_full = [&] { return cursor_ - ring.head.load() >= capacity; };
  if (is_full()) {
    ring.room_wanted.store(1);
    if (is_full())
      return false;
    ring.room_wanted.store(0);
  }
  ring.words[cursor_ % capacity] = word;
  ring.tail.store(++cursor_);
  return true;
}

bool transfer_ring::take_reader_asleep() noexcept {
  shared& ring = at();
  return ring.reader_asleep.load() != 0 && ring.reader_asleep.exchange(0) != 0;
}

result<std::size_t> transfer_ring::pop(std::span<std::uint64_t> into) noexcept {
  shared& ring = at();
  const std::uint64_t there = ring.tail.load() - cursor_;
  if (there > capacity)
    return fail(fault::bad_value, "the completion ring claims " + std::to_string(there) + " words");
  const auto taken = std::min<std::size_t>(there, into.size());
  for (std::size_t i = 0; i < taken; ++i)
    into[i] = ring.words[(cursor_ + i) % capacity];
  if (taken != 0)
    ring.head.store(cursor_ += taken);
  return taken;
}

bool transfer_ring::has_words() const noexcept {
  return at().tail.load() != cursor_;
}

bool transfer_ring::take_room_wanted() noexcept {
  shared& ring = at();
  return ring.room_wanted.load() != 0 && ring.room_wanted.exchange(0) != 0;
}

bool transfer_ring::arm() noexcept {
  shared& ring = at();
  ring.reader_asleep.store(1);
  if (!has_words())
    return true;
  ring.reader_asleep.store(0);
  return false;
}

void transfer_ring::disarm() noexcept {
  at().reader_asleep.store(0);
}

} // namespace troupe::fabric
