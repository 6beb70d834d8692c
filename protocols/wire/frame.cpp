#include "protocols/wire/frame.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <string>

#define XXH_INLINE_ALL // 56 bytes are hashed for every frame: the call would cost as much as the hash
#include <xxhash.h>

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

} // namespace

std::string_view name(message_type type) noexcept {
  switch (type) {
  case message_type::hello:
    return "hello";
  case message_type::welcome:
    return "welcome";
  case message_type::refuse:
    return "refuse";
  case message_type::joined:
    return "joined";
  case message_type::roster:
    return "roster";
  case message_type::agree:
    return "agree";
  case message_type::verdict:
    return "verdict";
  case message_type::proceed:
    return "proceed";
  case message_type::progress:
    return "progress";
  case message_type::leave:
    return "leave";
  case message_type::region:
    return "region";
  case message_type::launch:
    return "launch";
  case message_type::lost:
    return "lost";
  case message_type::rejoin:
    return "rejoin";
  case message_type::rejoined:
    return "rejoined";
  case message_type::recovered:
    return "recovered";
  case message_type::heartbeat:
    return "heartbeat";
  case message_type::submit:
    return "submit";
  case message_type::encode:
    return "encode";
  case message_type::mesh_plan:
    return "mesh_plan";
  case message_type::tokens:
    return "tokens";
  case message_type::timing:
    return "timing";
  case message_type::collective:
    return "collective";
  case message_type::reserve_kv:
    return "reserve_kv";
  case message_type::reserve_rows:
    return "reserve_rows";
  case message_type::reserve_blocks:
    return "reserve_blocks";
  case message_type::grant_rows:
    return "grant_rows";
  case message_type::grant_blocks:
    return "grant_blocks";
  case message_type::grant_pixels:
    return "grant_pixels";
  case message_type::arrived:
    return "arrived";
  case message_type::kv_sent:
    return "kv_sent";
  case message_type::handover:
    return "handover";
  case message_type::release:
    return "release";
  case message_type::revoke_rows:
    return "revoke_rows";
  case message_type::revoke_blocks:
    return "revoke_blocks";
  case message_type::pixels_returned:
    return "pixels_returned";
  case message_type::rows_returned:
    return "rows_returned";
  case message_type::blocks_returned:
    return "blocks_returned";
  case message_type::rows_quiet:
    return "rows_quiet";
  case message_type::blocks_quiet:
    return "blocks_quiet";
  case message_type::shutdown:
    return "shutdown";
  case message_type::error:
    return "error";
  case message_type::ack:
    return "ack";
  case message_type::nack:
    return "nack";
  case message_type::cancel:
    return "cancel";
  case message_type::ask:
    return "ask";
  case message_type::picture_chunk:
    return "picture_chunk";
  case message_type::accepted:
    return "accepted";
  case message_type::answer:
    return "answer";
  case message_type::finished:
    return "finished";
  case message_type::refused:
    return "refused";
  case message_type::withdraw:
    return "withdraw";
  case message_type::inject:
    return "inject";
  case message_type::injected:
    return "injected";
  }
  return {};
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
