#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

/// The named places of the product's code at which a drill can strike. One table: the code is checked against it when
/// it is compiled, drill files and `troupe inject` when they are read.
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

/// Who comes by; the rows of the matrix. `rank`: whatever its role is.
enum class drill_role { rank, supervisor, front, encode, prefill, decode, executor, link, listener, watchdog };
std::string_view name(drill_role role) noexcept;

struct fault_point {
  std::string_view name;
  drill_role role;
  drill_phase phase;
  std::string_view sentence; ///< when it is hit
};

inline constexpr std::array fault_points{
    fault_point{"rank.spawned", drill_role::rank, drill_phase::spawn, "The launch was read; nothing is made yet."},
    fault_point{"rank.handshake", drill_role::rank, drill_phase::handshake,
                "Everybody has joined; the facts to agree on are stated next."},
    fault_point{"rank.grouping", drill_role::rank, drill_phase::grouping, "Edges and groups are made next."},
    fault_point{"rank.warming", drill_role::rank, drill_phase::warm_up, "The warm-up is run next."},
    fault_point{"rank.idle", drill_role::rank, drill_phase::idle,
                "The main thread has nothing to do; about once a second."},
    fault_point{"rank.draining", drill_role::rank, drill_phase::drain, "The order to finish was read."},

    fault_point{"supervisor.spawning", drill_role::supervisor, drill_phase::spawn, "A rank's process was started."},
    fault_point{"supervisor.roster", drill_role::supervisor, drill_phase::handshake, "The roster is sent next."},
    fault_point{"supervisor.grouping", drill_role::supervisor, drill_phase::grouping,
                "The order to make groups is sent next."},
    fault_point{"supervisor.warming", drill_role::supervisor, drill_phase::warm_up,
                "The order to warm up is sent next."},
    fault_point{"supervisor.idle", drill_role::supervisor, drill_phase::idle,
                "A turn of the loop has ended; at least 20 times a second."},
    fault_point{"supervisor.draining", drill_role::supervisor, drill_phase::drain, "The order to finish is sent next."},

    fault_point{"front.idle", drill_role::front, drill_phase::idle, "A tick of the front."},
    fault_point{"front.preflight", drill_role::front, drill_phase::preflight, "A question has come."},
    fault_point{"front.ingesting", drill_role::front, drill_phase::preflight,
                "A whole question is decoded and tokenised next, on a thread of its own."},
    fault_point{"front.submitted", drill_role::front, drill_phase::header,
                "A request was accepted and its messages were sent."},
    fault_point{"front.pixels_posted", drill_role::front, drill_phase::payload,
                "A picture is on its way to an encode rank."},
    fault_point{"front.emitted", drill_role::front, drill_phase::emitted, "A token was sent to its client."},

    fault_point{"encode.idle", drill_role::encode, drill_phase::idle, "A tick of an encode leader."},
    fault_point{"encode.preflight", drill_role::encode, drill_phase::preflight, "An order to encode was read."},
    fault_point{"encode.stepping", drill_role::encode, drill_phase::header, "The tower is run next."},
    fault_point{"encode.rows_posted", drill_role::encode, drill_phase::payload,
                "Embeddings are on their way to a prefill rank."},
    fault_point{"encode.delivered", drill_role::encode, drill_phase::emitted, "A write of embeddings has ended."},

    fault_point{"prefill.idle", drill_role::prefill, drill_phase::idle, "A tick of a prefill rank."},
    fault_point{"prefill.preflight", drill_role::prefill, drill_phase::preflight,
                "A request, or the order to keep room for its pictures, was read."},
    fault_point{"prefill.blocks_posted", drill_role::prefill, drill_phase::payload,
                "Keys and values are on their way to a decode rank."},
    fault_point{"prefill.delivered", drill_role::prefill, drill_phase::emitted,
                "A write of keys and values has ended."},

    fault_point{"decode.idle", drill_role::decode, drill_phase::idle, "A tick of a decode rank."},
    fault_point{"decode.preflight", drill_role::decode, drill_phase::preflight,
                "The order to keep room for a request was read."},
    fault_point{"decode.arrived", drill_role::decode, drill_phase::payload, "Keys and values have arrived."},
    fault_point{"decode.emitted", drill_role::decode, drill_phase::emitted, "A step's tokens were sent to the front."},

    fault_point{"executor.announced", drill_role::executor, drill_phase::header,
                "A leader has announced a step and not begun it."},
    fault_point{"executor.planned", drill_role::executor, drill_phase::header,
                "A member has read the plan of a step and not begun it."},
    fault_point{"group.entered", drill_role::executor, drill_phase::collective, "A collective is entered next."},

    fault_point{"link.posting", drill_role::link, drill_phase::header, "A message is handed to its edge."},
    fault_point{"link.received", drill_role::link, drill_phase::payload, "A frame of a peer has come."},
    fault_point{"listener.accepted", drill_role::listener, drill_phase::handshake, "A peer's edge was taken in."},
    fault_point{"watchdog.looking", drill_role::watchdog, drill_phase::idle,
                "The watchdog looks next; twice in a heartbeat's time."},
};

constexpr std::optional<std::size_t> find_fault_point(std::string_view name) noexcept {
  for (std::size_t i = 0; i < fault_points.size(); ++i)
    if (fault_points[i].name == name)
      return i;
  return std::nullopt;
}

/// Place in the table; a name that is not in it does not compile.
consteval std::size_t fault_point_index(std::string_view name) {
  return find_fault_point(name).value();
}

} // namespace troupe::protocols
