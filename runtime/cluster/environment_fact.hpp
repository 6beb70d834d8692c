#pragma once

#include <string>

#include "protocols/cluster/life_messages.hpp"

namespace troupe::cluster {

/// What of a process's environment changes collectives or numbers, a line a variable, sorted: settings of NCCL, OpenMP,
/// the matrix libraries, and of the C library (whose mathematics choose by instruction set). A setting that only one
/// rank of a mesh has, shows up as a hang or as another answer, long after; as a fact it is a diff before anything is
/// made. Which device a rank sees, and by which network it is reached, may differ between hosts and is not in it.
/// Contract: B10, B13. `variables`: as `environ` holds them, "NAME=value", ended by null.
protocols::parity_fact environment_fact(const char* const* variables);

} // namespace troupe::cluster
