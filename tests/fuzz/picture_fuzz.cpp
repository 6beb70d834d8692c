#include "gpu/models/pictures/picture.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

namespace {

constexpr std::uint32_t side_max = 256;
constexpr std::size_t png_magic_bytes = 8;
constexpr std::size_t length_and_type_bytes = 8;

std::uint32_t crc_of(std::span<const std::byte> bytes) {
  std::uint32_t crc = 0xffff'ffffu;
  for (const auto byte : bytes) {
    crc ^= std::to_integer<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit)
      crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0xedb8'8320u : 0u);
  }
  return ~crc;
}

/// Gives every chunk of a PNG its checksum, so that what it holds is reached.
void seal_chunks(std::vector<std::byte>& file) {
  std::size_t at = png_magic_bytes;
  while (at + length_and_type_bytes + 4 <= file.size()) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i)
      length = length << 8 | std::to_integer<std::size_t>(file[at + i]);
    if (length > file.size() - at - length_and_type_bytes - 4)
      return;
    const auto crc = crc_of(std::span{file}.subspan(at + 4, 4 + length));
    for (std::size_t i = 0; i < 4; ++i)
      file[at + length_and_type_bytes + length + i] = static_cast<std::byte>(crc >> (24 - 8 * i));
    at += length_and_type_bytes + length + 4;
  }
}

} // namespace

/// A client's picture, header and body.
TROUPE_FUZZ_TARGET(picture) {
  std::vector<std::byte> file{input.begin(), input.end()};
  if (!file.empty() && file.front() == std::byte{0x89})
    seal_chunks(file);
  const auto read = gpu::models::read_picture(file, "page", side_max);
  if (!read)
    return;
  TROUPE_ASSERT("within the bound", read->height <= side_max && read->width <= side_max);
  TROUPE_ASSERT("every pixel is there", read->rgb.size() == std::size_t{3} * read->height * read->width);
}
