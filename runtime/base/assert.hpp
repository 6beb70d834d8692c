#pragma once

#include "protocols/invariant.hpp"

namespace troupe::base {

/// Prints label, condition and place, says them to the flight recorder, then leaves with exit_code::invariant. Never
/// unwinds, never returns.
[[noreturn]] void broken_invariant(const char* label, const char* condition, const char* file, int line) noexcept;

/// TROUPE_ASSERT ends every process so that has this header in one of its files.
inline const bool invariants_end_here = (protocols::end_broken_invariants_by(&broken_invariant), true);

} // namespace troupe::base
