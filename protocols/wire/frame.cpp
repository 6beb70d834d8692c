#include "protocols/wire/frame.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <string>

#define XXH_INLINE_ALL // 56 bytes are hashed for every frame: the call would cost as much as the hash
#include <xxhash.h>

#include "protocols/programs.hpp"

namespace troupe::protocols {

namespace {

/// The header as it stands on the wire (README: the frame).
struct wire_header {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t type;
  std::uint32_t flags;
  std::uint32_t payload_bytes;
  std::uint32_t source;
  std::uint32_t source_generation;
  std::uint32_t destination;
  std::uint32_t destination_generation;
  std::uint64_t epoch;
  std::uint64_t call;
  std::uint64_t sequence;
  std::uint64_t checksum;
};
static_assert(std::endian::native == std::endian::little, "the wire is little-endian; a big-endian host needs swaps");
static_assert(sizeof(wire_header) == limits::frame_header_bytes);
static_assert(offsetof(wire_header, source) == 16 && offsetof(wire_header, epoch) == 32);
static_assert(offsetof(wire_header, checksum) == 56, "the checksum covers what stands before it");

std::uint64_t checksum_of(const std::byte* header, std::span<const std::byte> payload) noexcept {
  const auto seed = XXH3_64bits(header, offsetof(wire_header, checksum));
  return XXH3_64bits_withSeed(payload.data(), payload.size(), seed);
}

constexpr std::array shared_messages{
    message_row{message_type::hello, "hello"},
    message_row{message_type::welcome, "welcome"},
    message_row{message_type::refuse, "refuse"},
    message_row{message_type::joined, "joined"},
    message_row{message_type::roster, "roster"},
    message_row{message_type::agree, "agree"},
    message_row{message_type::verdict, "verdict"},
    message_row{message_type::proceed, "proceed"},
    message_row{message_type::progress, "progress"},
    message_row{message_type::leave, "leave"},
    message_row{message_type::region, "region"},
    message_row{message_type::launch, "launch"},
    message_row{message_type::lost, "lost"},
    message_row{message_type::rejoin, "rejoin"},
    message_row{message_type::rejoined, "rejoined"},
    message_row{message_type::recovered, "recovered"},
    message_row{message_type::counters, "counters"},
    message_row{message_type::cluster_view, "cluster_view"},
    message_row{message_type::heartbeat, "heartbeat"},
    message_row{message_type::mesh_plan, "mesh_plan"},
    message_row{message_type::collective, "collective"},
    message_row{message_type::shutdown, "shutdown"},
    message_row{message_type::error, "error"},
    message_row{message_type::inject, "inject"},
    message_row{message_type::injected, "injected"},
};

using name_table = std::array<std::string_view, message_types_max>; // by number: every frame looks its type up

void enter(name_table& names, std::span<const message_row> rows) {
  for (const auto& row : rows)
    names.at(static_cast<std::size_t>(row.type)) = row.name;
}

name_table& names() noexcept {
  static auto table = [] {
    name_table all{};
    enter(all, shared_messages);
    for (const auto of_a_program : built_in_messages())
      enter(all, of_a_program);
    return all;
  }();
  return table;
}

} // namespace

std::string_view name(message_type type) noexcept {
  const auto number = static_cast<std::size_t>(type);
  return number < message_types_max ? names()[number] : std::string_view{};
}

void add_message_names(std::span<const message_row> rows) {
  enter(names(), rows);
}

bool is_known(message_type type) noexcept {
  return !name(type).empty();
}

void encode_header(const frame_header& header, std::span<const std::byte> payload,
                   std::span<std::byte, limits::frame_header_bytes> out) noexcept {
  wire_header wire{
      .magic = frame_magic,
      .version = wire_version,
      .type = static_cast<std::uint16_t>(header.type),
      .flags = header.flags,
      .payload_bytes = header.payload_bytes,
      .source = header.source.value,
      .source_generation = header.source_generation.value,
      .destination = header.destination.value,
      .destination_generation = header.destination_generation.value,
      .epoch = header.epoch.value,
      .call = header.call.value,
      .sequence = header.sequence,
      .checksum = 0,
  };
  wire.checksum = checksum_of(reinterpret_cast<const std::byte*>(&wire), payload);
  std::memcpy(out.data(), &wire, sizeof wire);
}

bool may_begin_frame(std::span<const std::byte> bytes) noexcept {
  const auto magic = std::bit_cast<std::array<std::byte, sizeof frame_magic>>(frame_magic);
  const auto here = bytes.first(std::min(bytes.size(), magic.size()));
  return std::equal(here.begin(), here.end(), magic.begin());
}

result<frame_header> decode_header(std::span<const std::byte, limits::frame_header_bytes> bytes,
                                   std::size_t frame_bytes_max) {
  wire_header wire;
  std::memcpy(&wire, bytes.data(), sizeof wire);
  const auto type = static_cast<message_type>(wire.type);

  if (wire.magic != frame_magic)
    return fail(fault::bad_magic);
  if (wire.version != wire_version)
    return fail(fault::unknown_version,
                "version " + std::to_string(wire.version) + ", spoken here: " + std::to_string(wire_version));
  if (!is_known(type))
    return fail(fault::unknown_type, "type " + std::to_string(wire.type));
  if ((wire.flags & ~known_frame_flags) != 0)
    return fail(fault::unknown_flag, "flags " + std::to_string(wire.flags) + " in " + std::string{name(type)});
  if (wire.payload_bytes > frame_bytes_max || wire.payload_bytes + sizeof wire > frame_bytes_max)
    return fail(fault::frame_too_long, std::to_string(wire.payload_bytes) + " payload bytes in " +
                                           std::string{name(type)} + ", a frame has at most " +
                                           std::to_string(frame_bytes_max));

  return frame_header{
      .type = type,
      .flags = wire.flags,
      .payload_bytes = wire.payload_bytes,
      .source = rank_id{wire.source},
      .source_generation = generation{wire.source_generation},
      .destination = rank_id{wire.destination},
      .destination_generation = generation{wire.destination_generation},
      .epoch = cache_epoch{wire.epoch},
      .call = call_id{wire.call},
      .sequence = wire.sequence,
  };
}

result<void> verify_checksum(std::span<const std::byte, limits::frame_header_bytes> header,
                             std::span<const std::byte> payload) {
  std::uint64_t stated = 0;
  std::memcpy(&stated, header.data() + offsetof(wire_header, checksum), sizeof stated);
  if (stated != checksum_of(header.data(), payload))
    return fail(fault::bad_checksum);
  return {};
}

} // namespace troupe::protocols
