#pragma once

#include <algorithm>
#include <cstddef>

/// What this thread has taken from the heap through `new`, and how much it has held at most since `begin`. Counted in
/// programs that have heap_watch.cpp, which replaces `new` and `delete`.
struct heap_watch {
  std::size_t allocations = 0;
  std::ptrdiff_t held = 0; ///< may fall below zero: what another thread took is given back here
  std::ptrdiff_t most = 0;

  void took(std::size_t bytes) noexcept {
    ++allocations;
    held += static_cast<std::ptrdiff_t>(bytes);
    most = std::max(most, held);
  }
  void gave(std::size_t bytes) noexcept { held -= static_cast<std::ptrdiff_t>(bytes); }
  void begin() noexcept { held = most = 0; }
};
inline thread_local heap_watch heap;
