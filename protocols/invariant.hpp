#pragma once

namespace troupe::protocols {

/// Says why and ends the process; does not return.
using invariant_ending = void (*)(const char* label, const char* condition, const char* file, int line) noexcept;

/// How a broken invariant ends the process. Machines do no I/O, so those above them say what is to be done
/// (`runtime/base/assert.hpp`); without it the process traps.
/// Threads: before the process has a second one.
void end_broken_invariants_by(invariant_ending how) noexcept;

[[noreturn]] void broken_invariant(const char* label, const char* condition, const char* file, int line) noexcept;

} // namespace troupe::protocols

/// A broken invariant ends the process, in release too: going on would spread it to the mesh (C1).
/// `label` is the contract that it keeps, or a word.
#define TROUPE_ASSERT(label, condition)                                                                                \
  do {                                                                                                                 \
    if (!(condition)) [[unlikely]]                                                                                     \
      ::troupe::protocols::broken_invariant(label, #condition, __FILE__, __LINE__);                                    \
  } while (false)
