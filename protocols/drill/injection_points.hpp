#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

/// The named places of the code at which a drill can strike: a table here, and one of each program. The code is checked
/// against its table when it is compiled, drill files and `troupe inject` against all of them when they are read.
namespace troupe::protocols {

/// Where in the life of a rank or of a request a fault can fall; the columns of the matrix.
enum class drill_phase {
  spawn,      ///< the process exists and has made nothing yet
  handshake,  ///< it can be reached, the ranks have not agreed yet
  grouping,   ///< edges and groups are being made
  warm_up,    ///< every collective runs once
  idle,       ///< ready, nothing to do
  preflight,  ///< a request has come, nothing of it was sent on yet
  header,     ///< its message or plan was sent, its payload was not
  payload,    ///< its bytes are on their way
  collective, ///< inside a collective of its step
  emitted,    ///< its result has left
  hard_cut,   ///< an epoch ends
  drain,      ///< told to finish
};
inline constexpr std::size_t drill_phase_count = 12;
std::string_view name(drill_phase phase) noexcept;

/// The name begins with who comes by: "rank" whatever its role is, "supervisor", a role of the program, "link".
struct fault_point {
  std::string_view name;
  drill_phase phase;
  std::string_view sentence; ///< when it is hit
};

inline constexpr std::array fault_points{
    fault_point{"rank.spawned", drill_phase::spawn, "The launch was read; nothing is made yet."},
    fault_point{"rank.handshake", drill_phase::handshake,
                "Everybody has joined; the facts to agree on are stated next."},
    fault_point{"rank.grouping", drill_phase::grouping, "Edges and groups are made next."},
    fault_point{"rank.warming", drill_phase::warm_up, "The warm-up is run next."},
    fault_point{"rank.idle", drill_phase::idle, "The main thread has nothing to do; about once a second."},
    fault_point{"rank.draining", drill_phase::drain, "The order to finish was read."},
    fault_point{"supervisor.spawning", drill_phase::spawn, "A rank's process was started."},
    fault_point{"supervisor.roster", drill_phase::handshake, "The roster is sent next."},
    fault_point{"supervisor.grouping", drill_phase::grouping, "The order to make groups is sent next."},
    fault_point{"supervisor.warming", drill_phase::warm_up, "The order to warm up is sent next."},
    fault_point{"supervisor.idle", drill_phase::idle, "A turn of the loop has ended; at least 20 times a second."},
    fault_point{"supervisor.draining", drill_phase::drain, "The order to finish is sent next."},
    fault_point{"group.entered", drill_phase::collective, "A collective is entered next."},
    fault_point{"link.posting", drill_phase::header, "A message is handed to its edge."},
    fault_point{"link.received", drill_phase::payload, "A frame of a peer has come."},
    fault_point{"listener.accepted", drill_phase::handshake, "A peer's edge was taken in."},
    fault_point{"watchdog.looking", drill_phase::idle, "The watchdog looks next; twice in a heartbeat's time."},
};

/// The point's name; one that is not in the table does not compile.
consteval std::string_view fault_point_in(std::span<const fault_point> table, std::string_view name) {
  return std::ranges::find(table, name, &fault_point::name)->name; // no constant beyond the table's end
}

/// Of this table and of every program.
bool is_fault_point(std::string_view name) noexcept;
std::vector<std::string_view> fault_point_names();

} // namespace troupe::protocols
