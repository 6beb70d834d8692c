#include "fabric/lanes/shared_memory_ring.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace troupe::fabric {

using namespace protocols;

namespace {

/// Where a frame's magic would stand: no record here, go on at the beginning.
constexpr std::uint32_t go_to_beginning = 0x44415053;
static_assert(sizeof go_to_beginning <= ring_granule);

/// An empty ring starts over from here on, so that a lane of small frames stays within few pages and cache lines.
constexpr std::size_t start_over_from = 64 * 1024;
constexpr std::size_t smallest_ring = 4096;

} // namespace

std::size_t ring_capacity(std::size_t in_flight, std::size_t record_max) noexcept {
  // With its cursor in the middle an empty ring has room for half of itself on either side.
  return std::bit_ceil(std::max({in_flight, 2 * record_bytes(record_max), smallest_ring}));
}

ring_producer::ring_producer(ring_words& shared, std::span<std::byte> bytes) noexcept
    : shared_(&shared), bytes_(bytes) {}

bool ring_producer::refresh_head() noexcept {
  const auto head = shared_->head.load(std::memory_order_seq_cst);
  if (head < known_head_ || head > tail_ || head % ring_granule != 0)
    return false;
  known_head_ = head;
  return true;
}

result<std::span<std::byte>> ring_producer::reserve(std::size_t bytes) {
  const auto impossible = [] { return fail(fault::bad_value, "the peer's position in the ring is impossible"); };
  const std::size_t capacity = bytes_.size();
  const std::size_t need = record_bytes(bytes);
  const std::size_t place = tail_ & (capacity - 1);

  std::size_t skip = 0;
  if (need > capacity - place) {
    skip = capacity - place;
  } else if (place >= start_over_from && need <= place) {
    if (!refresh_head())
      return impossible();
    if (known_head_ == tail_)
      skip = capacity - place;
  }
  const std::uint64_t end = tail_ + skip + need;
  if (end - known_head_ > capacity) {
    if (!refresh_head())
      return impossible();
    if (end - known_head_ > capacity) {
      refused_until_ = end - capacity;
      return std::span<std::byte>{};
    }
  }
  if (skip != 0)
    std::memcpy(bytes_.data() + place, &go_to_beginning, sizeof go_to_beginning);
  refused_until_ = 0;
  reserved_ = skip + need;
  return bytes_.subspan((place + skip) & (capacity - 1), need);
}

bool ring_producer::commit() noexcept {
  tail_ += reserved_;
  reserved_ = 0;
  shared_->tail.store(tail_, std::memory_order_seq_cst);
  return shared_->sleeping.load(std::memory_order_seq_cst) != 0 &&
         shared_->sleeping.exchange(0, std::memory_order_seq_cst) != 0;
}

bool ring_producer::arm() noexcept {
  if (refused_until_ == 0)
    return false;
  shared_->room_wanted.store(refused_until_, std::memory_order_seq_cst);
  if (!refresh_head() || known_head_ >= refused_until_) { // an impossible head is for `reserve` to report
    disarm();
    return false;
  }
  return true;
}

std::size_t ring_producer::in_flight() const noexcept {
  const auto head = shared_->head.load(std::memory_order_acquire);
  return head <= tail_ ? std::min<std::size_t>(tail_ - head, bytes_.size()) : 0;
}

ring_consumer::ring_consumer(ring_words& shared, std::span<const std::byte> bytes) noexcept
    : shared_(&shared), bytes_(bytes) {}

result<std::span<const std::byte>> ring_consumer::front() {
  const std::size_t capacity = bytes_.size();
  if (known_tail_ == head_) {
    const auto tail = shared_->tail.load(std::memory_order_acquire);
    if (tail < head_ || tail - head_ > capacity || tail % ring_granule != 0)
      return fail(fault::bad_value, "the peer's position in the ring is impossible");
    known_tail_ = tail;
    if (tail == head_)
      return std::span<const std::byte>{};
  }
  std::size_t place = head_ & (capacity - 1);
  std::uint32_t mark = 0;
  std::memcpy(&mark, bytes_.data() + place, sizeof mark);
  if (mark == go_to_beginning) {
    if (capacity - place >= known_tail_ - head_)
      return fail(fault::bad_value, "the ring's mark is not followed by a record");
    head_ += capacity - place;
    place = 0;
  }
  return bytes_.subspan(place, std::min<std::size_t>(known_tail_ - head_, capacity - place));
}

bool ring_consumer::pop(std::size_t bytes) noexcept {
  head_ += bytes;
  shared_->head.store(head_, std::memory_order_seq_cst);
  const auto wanted = shared_->room_wanted.load(std::memory_order_seq_cst);
  return wanted != 0 && head_ >= wanted && shared_->room_wanted.exchange(0, std::memory_order_seq_cst) != 0;
}

bool ring_consumer::arm() noexcept {
  shared_->sleeping.store(1, std::memory_order_seq_cst);
  if (shared_->tail.load(std::memory_order_seq_cst) != head_) {
    disarm();
    return false;
  }
  return true;
}

} // namespace troupe::fabric
