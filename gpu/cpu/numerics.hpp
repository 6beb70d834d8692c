#pragma once

#include <string>

namespace troupe::gpu::cpu {

/// What the numbers of this machine's CPU depend on beside the program: the instruction set that the own loops were
/// chosen for, and that of the matrix library with its version. Ranks of one mesh must agree on it (B13).
std::string describe_numerics();

} // namespace troupe::gpu::cpu
