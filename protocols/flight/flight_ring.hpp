#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/flight/flight.hpp"

/// The recorder's file: one header, then a fixed number of 64-byte records that are written round and round.
///
/// A record begins with its sequence: 2 (index + 1) once it is whole, one less while it is being written. A writer
/// claims its place by that number, so two that meet after a whole round cannot mix theirs: the one that comes too late
/// drops its own. Numbers are those of the host that wrote the file; the magic number reads differently on another
/// kind.
namespace troupe::protocols {

inline constexpr std::uint64_t flight_magic = 0x3154'4847'494c'4654u; ///< "TFLIGHT1"
inline constexpr std::uint32_t flight_version = 1;
/// Generations of a rank whose files are kept, its present one included: a rank that is started for ever fills no disk.
inline constexpr std::uint32_t flight_generations_kept = 4;
inline constexpr std::size_t flight_groups_max = 16;
inline constexpr std::size_t flight_threads_max = 16;

/// What a rank's watchdog complains of, in one word, so that it is read whole: a count above 0, by which the same can
/// be said again, the silent peer and which generation of it was silent.
struct complaint_word {
  std::uint64_t bits = 0; ///< 16 of the count, 32 of the generation, 16 of the rank

  std::uint64_t count() const noexcept { return bits >> 48; }
  generation born() const noexcept { return generation{static_cast<std::uint32_t>(bits >> 16)}; }
  rank_id peer() const noexcept { return rank_id{static_cast<std::uint32_t>(bits & 0xffff)}; }
  complaint_word next(rank_id about, generation of) const noexcept {
    const std::uint64_t counted = count() == 0xffff ? 1 : count() + 1;
    return {counted << 48 | std::uint64_t{of.value} << 16 | (about.value & 0xffff)};
  }
};

struct flight_header {
  struct group {
    std::uint32_t id;
    std::uint32_t entered; ///< live: collectives of all members that this rank has entered
    std::array<char, 56> name;
  };
  /// Live: what one thread is in the middle of. `version` is odd while it is being written.
  struct thread {
    std::uint64_t version;
    std::int64_t since_ns;
    std::int64_t until_ns;
    std::uint64_t progress;
    std::uint64_t call;
    std::uint64_t item;
    std::uint64_t place; ///< words 5 and 6 of `flight_words`
    std::uint64_t kind;
  };

  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint32_t record_bytes;
  std::uint32_t capacity; ///< records; a power of two
  std::uint32_t rank;
  std::uint32_t born; ///< generation
  std::uint64_t pid;
  std::int64_t wall_ns;   ///< both clocks when the file was opened: their difference places the ranks of two hosts
  std::int64_t steady_ns; ///< beside each other
  std::uint32_t groups_count;
  std::uint32_t spare;
  std::array<char, 64> label;
  std::array<char, 64> host;
  std::array<group, flight_groups_max> groups;
  alignas(64) std::int64_t pulse_ns; ///< live: the last beat of the rank's watchdog
  std::uint64_t life;                ///< live: life_state
  std::uint64_t threads_count;       ///< live: threads that have been in anything; those above the table are not seen
  std::uint64_t complaint;           ///< live: a complaint_word about the peer that is silent towards this rank
  std::uint64_t graphs;              ///< live: captured work that is kept
  std::uint64_t eager;               ///< live: runs without any, where it could be
  alignas(64) std::uint64_t next;    ///< live: index of the next record
  std::uint64_t dropped;             ///< live: records of writers that came too late
  alignas(64) std::array<thread, flight_threads_max> threads;
  std::uint32_t words_state; ///< live: 0 none, 1 being written, 2 there
  std::uint32_t words_bytes;
  std::array<char, 1720> words; ///< what the rank said last: its fault; the supervisor's first cause
};
static_assert(sizeof(flight_header) == 4096 && std::is_trivially_copyable_v<flight_header>);

inline constexpr std::size_t flight_record_bytes = sizeof(std::uint64_t) + sizeof(flight_words);
inline constexpr std::uint32_t flight_records_default = 4096;
inline constexpr std::uint32_t flight_records_max = 1u << 20;
constexpr std::size_t flight_file_bytes(std::uint32_t records) noexcept {
  return sizeof(flight_header) + flight_record_bytes * records;
}

/// What one file tells.
struct flight_story {
  struct group {
    group_id id;
    std::string name;
    std::uint32_t entered = 0;

    bool operator==(const group&) const = default;
  };

  rank_id rank;
  generation born;
  std::string label;
  std::string host;
  std::uint64_t pid = 0;
  std::int64_t wall_ns = 0;
  std::int64_t steady_ns = 0;
  std::vector<group> groups;
  std::int64_t pulse_ns = 0; ///< 0: it has no watchdog
  life_state life{};
  std::uint64_t graphs = 0;                ///< captured work that is kept
  std::uint64_t eager = 0;                 ///< runs without any, where it could be
  std::vector<flight_activity> activities; ///< by thread
  std::vector<flight_record> records;      ///< oldest first
  std::uint64_t lost = 0;                  ///< written over, or torn by the end of the process
  std::string words;

  bool operator==(const flight_story&) const = default;
};

/// Judges every field of a file that anybody may have written; nothing is allocated beyond its own size.
/// Errors: bad_magic, unknown_version, short_payload, bad_value, each with `file` and the offset.
result<flight_story> read_flight(std::span<const std::byte> bytes, std::string_view file);

} // namespace troupe::protocols
