#pragma once

#include <array>
#include <string_view>

#include "protocols/cluster/program.hpp"

/// A second program, which adds up numbers: it shows what a program needs, and that shared code needs nothing of it
/// (deploy/docs/PROGRAMS.md). A teller takes questions of clients, writes the numbers of each into the memory of a cell
/// of counters, and answers with the sum that the cell's ranks make in a collective.
namespace troupe::tally {

inline constexpr protocols::role_kind teller{28};  ///< the front
inline constexpr protocols::role_kind counter{29}; ///< its cells are meshes

inline constexpr protocols::transfer_kind numbers_written{1};

namespace tally_type {
inline constexpr protocols::message_type lend{960};
inline constexpr protocols::message_type add{961};
inline constexpr protocols::message_type landed{962};
inline constexpr protocols::message_type sum{963};
inline constexpr protocols::message_type count{970}; ///< of clients, as `counted`
inline constexpr protocols::message_type counted{971};
} // namespace tally_type

namespace tally_actor {
inline constexpr protocols::actor_kind teller{32};
inline constexpr protocols::actor_kind counter{33};
} // namespace tally_actor

inline constexpr protocols::flight_phase adding{32};

namespace tally_setting {
inline constexpr std::string_view numbers_max = "numbers_max";
inline constexpr std::string_view piece_numbers = "piece_numbers";
} // namespace tally_setting

inline constexpr std::array tally_fault_points{
    protocols::fault_point{"teller.posted", protocols::drill_phase::payload, "Numbers are on their way to a counter."},
    protocols::fault_point{"counter.piece", protocols::drill_phase::payload, "A piece of the numbers has come."},
    protocols::fault_point{"counter.adding", protocols::drill_phase::header, "A rank of the cell adds up next."},
};

} // namespace troupe::tally
