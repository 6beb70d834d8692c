#pragma once

#include "protocols/cluster/program.hpp"

/// A second program, which adds up numbers: it shows what a program needs, and that shared code needs nothing of it
/// (deploy/docs/PROGRAMS.md). A teller takes questions of clients, writes the numbers of each into the memory of a cell
/// of counters, and answers with the sum that the cell's ranks agree on in a collective.
namespace troupe::tally {

inline constexpr protocols::role_kind teller{28};  ///< the front
inline constexpr protocols::role_kind counter{29}; ///< its cells are meshes

} // namespace troupe::tally
