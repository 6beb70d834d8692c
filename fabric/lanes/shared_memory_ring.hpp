#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "protocols/fault.hpp"

/// A byte ring in shared memory with one producer and one consumer, in two processes.
///
/// Records are whole and contiguous, so that a frame can be checked and read where it lies; a record that would cross
/// the end is preceded by a mark that says "go to the beginning". Positions count bytes since the lane was made and
/// never wrap. Each side keeps its own position in its own memory: what stands in shared memory is for the other side,
/// and what the other side wrote there is believed only within the ring's bounds.
///
/// Sleeping: a side stores its wish (`sleeping`, `room_wanted`), then looks once more at the other's position; the
/// other side stores its position, then looks at the wish. All four accesses are sequentially consistent, so one of the
/// two sees the other and no wake-up is lost (Dekker). Everything else is acquire on reading the other's position,
/// which pairs with that store: bytes of a record are written before `tail` is stored and read after it is loaded, and
/// bytes are given back by `head` the same way.
/// Standalone fences would do as well; they are not used because ThreadSanitizer does not know them.
namespace troupe::fabric {

inline constexpr std::size_t ring_granule = 64; ///< a record begins on a cache line

/// The shared words of one ring, each on its own line: the wishes change seldom and stay in both caches.
struct ring_words {
  alignas(64) std::atomic<std::uint64_t> tail;        ///< producer: bytes ever written
  alignas(64) std::atomic<std::uint64_t> room_wanted; ///< producer: wake me when `head` is there; 0: do not
  alignas(64) std::atomic<std::uint64_t> head;        ///< consumer: bytes ever given back
  alignas(64) std::atomic<std::uint32_t> sleeping;    ///< consumer: 1: wake me when `tail` moves
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);

constexpr std::size_t record_bytes(std::size_t bytes) noexcept {
  return (bytes + ring_granule - 1) / ring_granule * ring_granule;
}

/// Smallest ring that holds `in_flight` bytes and, wherever its cursor stands, a record of `record_max` bytes.
std::size_t ring_capacity(std::size_t in_flight, std::size_t record_max) noexcept;

/// Threads: one.
class ring_producer {
public:
  /// `bytes` has a power of two of bytes, all zero; nothing is touched before it is needed.
  ring_producer(ring_words& shared, std::span<std::byte> bytes) noexcept;

  /// Contiguous room for one record of up to half the ring, or an empty span when there is none now.
  /// Errors: bad_value (the consumer's position is impossible).
  protocols::result<std::span<std::byte>> reserve(std::size_t bytes);
  /// Publishes what was reserved last. True: the consumer sleeps and is to be woken.
  bool commit() noexcept;

  /// False: what `reserve` refused last fits now.
  bool arm() noexcept;
  void disarm() noexcept { shared_->room_wanted.store(0, std::memory_order_seq_cst); }

  std::size_t in_flight() const noexcept;

private:
  bool refresh_head() noexcept;

  ring_words* shared_;
  std::span<std::byte> bytes_;
  std::uint64_t tail_ = 0;
  std::uint64_t known_head_ = 0;
  std::uint64_t reserved_ = 0;
  std::uint64_t refused_until_ = 0; ///< position of head from which the refused record fits
};

/// Threads: one.
class ring_consumer {
public:
  ring_consumer(ring_words& shared, std::span<const std::byte> bytes) noexcept;

  /// What lies contiguously from the next record on; empty: nothing yet. The bytes are the other process's and may
  /// change under our hands: copy a length once before it is checked.
  /// Errors: bad_value (the producer's position or its mark is impossible).
  protocols::result<std::span<const std::byte>> front();
  /// Gives `bytes` (a multiple of the granule within `front`) back. True: the producer waits for this room.
  bool pop(std::size_t bytes) noexcept;

  /// False: something has arrived.
  bool arm() noexcept;
  void disarm() noexcept { shared_->sleeping.store(0, std::memory_order_seq_cst); }

private:
  ring_words* shared_;
  std::span<const std::byte> bytes_;
  std::uint64_t head_ = 0;
  std::uint64_t known_tail_ = 0;
};

} // namespace troupe::fabric
