#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "fabric/transfers/region_memory.hpp"

namespace troupe::fabric {

/// Completions from one rank to one other: a ring of 64-bit words in shared memory, one writer, one reader.
/// The reader makes it and hands its descriptor to the writer. Each side keeps its own cursor in private memory and
/// believes the other's only as far as it is possible, so a peer gone mad costs an error and no stray access.
/// Memory ordering: a word is published by the store of `tail`, which also publishes the copied bytes of the write it
/// speaks of. Sleeping and publishing each store one word and then read the other's, so both are sequentially
/// consistent: one of the two always sees the other.
/// Threads: one for each side.
class transfer_ring {
public:
  static constexpr std::uint32_t capacity = 4096;
  struct shared;

  transfer_ring() noexcept = default;
  /// The reader's side. Errors: no_memory.
  static protocols::result<transfer_ring> create();
  /// The writer's side of a peer's ring. Errors: bad_value, no_memory.
  static protocols::result<transfer_ring> map(base::unique_fd file);

  int file() const noexcept { return memory_.file(); }

  // ---- writer ----

  /// False: the ring is full; the reader is asked to ring when there is room (`take_room_wanted`).
  bool push(std::uint64_t word) noexcept;
  /// Whether the reader sleeps and must be rung; says so once a sleep.
  bool take_reader_asleep() noexcept;

  // ---- reader ----

  /// Takes the words that are there, at most `into`. Errors: bad_value (the writer's cursor is impossible).
  protocols::result<std::size_t> pop(std::span<std::uint64_t> into) noexcept;
  bool has_words() const noexcept;
  /// Whether the writer waits for room and must be rung; says so once a wait.
  bool take_room_wanted() noexcept;
  /// Says that the reader is going to sleep. False: do not, there are words.
  bool arm() noexcept;
  void disarm() noexcept;

private:
  explicit transfer_ring(region_memory memory) noexcept;
  shared& at() const noexcept;

  region_memory memory_;
  std::uint64_t cursor_ = 0; ///< of this side: words pushed, or words popped
};

} // namespace troupe::fabric
