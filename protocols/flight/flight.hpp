#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"

/// The vocabulary of the flight recorder: what a rank may note, in 64 bytes, and what it may be in the middle of.
/// Ordinals stand in files: append only.
namespace troupe::protocols {

enum class flight_action : std::uint8_t {
  none = 0,          ///< of an activity: nothing is going on, the thread waits for orders
  life = 1,          ///< a step of the rank's life; operation: life_state
  edge = 2,          ///< waits for a lane to `peer`; operation: channel_kind
  step = 3,          ///< one step of an executor, as its plan says
  collective = 4,    ///< number: of this group, from 1; hops have a peer instead; operation: collective_kind
  plan_announce = 5, ///< the leader tells its members the next step
  plan_await = 6,    ///< a member waits for the next step: idle, but for its leader
  transfer = 7,      ///< a one-sided write to `peer`, from posted to delivered; item: its cookie
  arrived = 8,       ///< a write of `peer` is complete here; item: its completion data
  frame_sent = 9,    ///< a control frame; operation: message_type
  frame_received = 10,
  fault = 11, ///< this rank cannot go on; operation: fault
  // the supervisor's
  spawned = 12, ///< `peer` was started; number: its generation, item: its process
  ended = 13,   ///< `peer` has ended; operation: 0 by exit code, 1 by signal; item: which
  killed = 14,  ///< `peer` gets SIGKILL from the supervisor
  verdict = 15, ///< `peer` failed first; the recorder's words say why
  // a rank's again
  device = 16, ///< waits, with a deadline, for its GPU
  part = 17,   ///< a part of its start; operation: start_part
  turn = 18,   ///< an actor is at a message; operation: actor_kind; item: which of its work, or 0
};

/// Whose turn it is. A program's own actors have rows (`program::actors`), with numbers that no other has.
enum class actor_kind : std::uint8_t {
  link = 6,
};

/// What a rank's start is made of; parts follow each other and do not nest.
enum class start_part : std::uint8_t {
  files = 0,       ///< the model's files are mapped and their fingerprint is taken
  device = 1,      ///< the device's plug-in is loaded and its context made
  memory = 2,      ///< regions for peers are made
  edges = 3,       ///< lanes to peers, and the regions of peers
  collectives = 4, ///< groups over devices are joined
  weights = 5,     ///< this rank's share is read and copied to its device
  shapes = 6,      ///< the smallest steps run once
  capture = 7,     ///< every size of step is run and captured
};

enum class flight_moment : std::uint8_t { point = 0, begin = 1, end = 2 };

/// A program's own phases have rows (`program::phases`), with numbers that no other has.
enum class flight_phase : std::uint8_t {
  none = 0,
  start = 1,
  warm = 2,
  stop = 7,
  other = 8, ///< a phase that neither this vocabulary nor a program names
};

/// Above every clock of this century, and low enough that sums of a few times stay in range.
inline constexpr std::int64_t flight_time_max_ns = std::int64_t{1} << 61;
constexpr bool is_flight_time(std::int64_t time_ns) noexcept {
  return time_ns >= 0 && time_ns <= flight_time_max_ns;
}

inline constexpr rank_id no_peer{0xffff'ffffu};
inline constexpr group_id no_group{0xffff'ffffu};

/// One record. What does not apply stays as it is here.
/// Contract: C8, J1, J2.
struct flight_record {
  std::int64_t time_ns = 0; ///< steady clock of the rank's host
  call_id call{};
  std::uint64_t item = 0; ///< request, room or what else the action says
  cache_epoch epoch{};
  std::uint64_t amount = 0; ///< bytes; elements of a collective
  std::uint32_t number = 0;
  rank_id peer = no_peer;
  group_id group = no_group;
  std::uint16_t operation = 0; ///< its vocabulary is the action's, see `operation_name`
  std::uint16_t outcome = 0;   ///< of an end: 0, or the fault
  flight_action action{};
  flight_moment moment{};
  flight_phase phase{};

  bool operator==(const flight_record&) const = default;
};

/// Of a part of a rank's start, for a span.
constexpr flight_record record_of(start_part part) noexcept {
  return {.operation = static_cast<std::uint16_t>(part), .action = flight_action::part, .phase = flight_phase::start};
}

/// Of an actor that is at a message.
constexpr flight_record record_of(actor_kind whose, std::uint64_t item = 0) noexcept {
  return {.item = item, .operation = static_cast<std::uint16_t>(whose), .action = flight_action::turn};
}

/// A record without its publishing sequence, as it stands in a file: 56 bytes, eight at a time so that each can be
/// stored and read whole.
using flight_words = std::array<std::uint64_t, 7>;
flight_words pack(const flight_record& record) noexcept;
/// Errors: bad_value, naming the field.
result<flight_record> unpack(const flight_words& words);

std::string_view name(flight_action action) noexcept;
std::string_view name(flight_moment moment) noexcept;
std::string_view name(flight_phase phase) noexcept; ///< empty: nobody has a phase of that number
std::string_view name(start_part part) noexcept;
std::string_view name(actor_kind whose) noexcept; ///< empty: nobody has an actor of that number
/// `other` for a name that is none.
flight_phase phase_named(std::string_view name) noexcept;
/// "all_reduce_sum", "handover", "grouped"; empty where the action has no operation.
std::string_view operation_name(flight_action action, std::uint16_t operation) noexcept;

/// What one thread of a rank is in the middle of: its last begin that has no end.
struct flight_activity {
  flight_record what;         ///< time_ns: since when; action none: nothing
  std::int64_t until_ns = 0;  ///< 0: still; else it was left at that time by a fault, `what.outcome`
  std::uint64_t progress = 0; ///< steps, layers and collectives that this thread has completed

  bool operator==(const flight_activity&) const = default;
};

} // namespace troupe::protocols
