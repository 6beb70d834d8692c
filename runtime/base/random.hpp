#pragma once

#include <cstddef>
#include <span>

namespace troupe::base {

/// Fills `out` from the kernel's generator, for tokens and keys. Blocks only before the machine has seen any entropy;
/// a kernel that refuses is a broken invariant, since a token that can be guessed is worse than no cluster.
/// Machines never call it: what is random in `protocols/` is an argument.
void fill_random(std::span<std::byte> out);

} // namespace troupe::base
