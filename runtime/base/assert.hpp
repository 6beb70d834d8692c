#pragma once

namespace troupe::base {

/// Prints label, condition and place, says them to the flight recorder, then leaves with exit_code::invariant. Never
/// unwinds, never returns.
[[noreturn]] void broken_invariant(const char* label, const char* condition, const char* file, int line) noexcept;

} // namespace troupe::base

/// A broken invariant ends the process, in release too: going on would spread it to the mesh (C1).
/// `label` is the contract that it keeps, or a word.
#define TROUPE_ASSERT(label, condition)                                                                                \
  do {                                                                                                                 \
    if (!(condition)) [[unlikely]]                                                                                     \
      ::troupe::base::broken_invariant(label, #condition, __FILE__, __LINE__);                                         \
  } while (false)
