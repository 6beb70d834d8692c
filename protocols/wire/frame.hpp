#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/limits.hpp"

namespace troupe::protocols {

inline constexpr std::uint32_t frame_magic = 0x50555254; ///< "TRUP" as its bytes stand on the wire
inline constexpr std::uint16_t wire_version = 1;

/// What a frame carries: the messages that are of no program. The hundreds digit is the family; numbers are
/// append-only. A program's own types have numbers that it names (`add_message_names`).
enum class message_type : std::uint16_t {
  // life
  hello = 100,
  welcome = 101,
  refuse = 102,
  joined = 103,
  roster = 104,
  agree = 105,
  verdict = 106,
  proceed = 107,
  progress = 108,
  leave = 109,
  region = 110,
  launch = 111,
  lost = 112,
  rejoin = 113,
  rejoined = 114,
  recovered = 115,
  counters = 116,
  cluster_view = 117,
  // liveness
  heartbeat = 200,
  // the steps of a cell; only on a group's own lanes
  mesh_plan = 302,  ///< what the next step is, in the program's own words
  collective = 305, ///< bytes of a host collective
  // ends
  shutdown = 500,
  error = 501,
  // drills
  inject = 700,
  injected = 701,
};

/// A message of a program.
struct message_row {
  message_type type{};
  std::string_view name;
};
/// Makes types known, before the first frame is read. Their numbers are below `message_types_max`.
void add_message_names(std::span<const message_row> rows);
inline constexpr std::size_t message_types_max = 1024;

bool is_known(message_type type) noexcept;
std::string_view name(message_type type) noexcept; ///< empty for a type that is not known

/// Flags of a frame; a flag that is not known here is refused.
enum frame_flag : std::uint32_t {
  strict_payload = 1u << 0, ///< a payload longer than the type known here must be refused, not cut
};
inline constexpr std::uint32_t known_frame_flags = strict_payload;

/// The fixed part of every frame: 64 bytes, little-endian, in this order after the magic and the version.
/// Contract: A16, A22, A26, D2.
struct frame_header {
  message_type type{};
  std::uint32_t flags = 0;
  std::uint32_t payload_bytes = 0;
  rank_id source{};
  generation source_generation{};
  rank_id destination{};
  generation destination_generation{};
  cache_epoch epoch{};
  call_id call{};
  std::uint64_t sequence = 0; ///< of this edge and direction, from 1

  bool operator==(const frame_header&) const = default;
};

using header_bytes = std::array<std::byte, limits::frame_header_bytes>;

/// Writes header and checksum: XXH3-64 of the payload, seeded with the XXH3-64 of the header before the checksum field.
/// One pass over each and no hash state to set up: a frame of 64 bytes costs tens of nanoseconds.
void encode_header(const frame_header& header, std::span<const std::byte> payload,
                   std::span<std::byte, limits::frame_header_bytes> out) noexcept;

/// False when what has come of a header, less than all of it maybe, cannot be one: bytes of something else need not be
/// waited for.
bool may_begin_frame(std::span<const std::byte> bytes) noexcept;

/// Reads and checks the fixed part alone, so that a receiver knows how much to expect before it holds anything.
/// Errors: bad_magic, unknown_version, unknown_type, unknown_flag, frame_too_long (header + payload > frame_bytes_max).
result<frame_header> decode_header(std::span<const std::byte, limits::frame_header_bytes> bytes,
                                   std::size_t frame_bytes_max);

/// Errors: bad_checksum. `header` are the bytes that `decode_header` checked.
result<void> verify_checksum(std::span<const std::byte, limits::frame_header_bytes> header,
                             std::span<const std::byte> payload);

/// A frame as it lies in a lane: the payload is borrowed until the lane is told to pop it.
struct frame_view {
  frame_header header;
  std::span<const std::byte> payload;
};

} // namespace troupe::protocols
