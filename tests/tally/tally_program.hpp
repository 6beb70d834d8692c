#pragma once

#include "protocols/cluster/program.hpp"

namespace troupe::tally {

const protocols::program& tally_program() noexcept;

/// Both halves, before a spec is read. Errors: those of `add_program`.
protocols::result<void> add_tally();

} // namespace troupe::tally
