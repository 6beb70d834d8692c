#include "gpu/models/pictures/exif.hpp"

#include <algorithm>
#include <cstddef>

#include "gpu/models/pictures/picture_codecs.hpp"

namespace troupe::gpu::models {
namespace {

constexpr std::uint32_t orientation_tag = 0x0112;
constexpr std::size_t header_bytes = 8;
constexpr std::size_t entry_bytes = 12;

/// A TIFF file's numbers, in the order of bytes that it names. What lies outside reads as 0.
class tiff_reader {
public:
  explicit tiff_reader(std::span<const std::byte> bytes) noexcept
      : bytes_(bytes), little_(bytes.size() > 1 && bytes[0] == std::byte{'I'} && bytes[1] == std::byte{'I'}) {}

  std::uint32_t number(std::size_t at, std::size_t count) const noexcept {
    if (at > bytes_.size() || bytes_.size() - at < count)
      return 0;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < count; ++i)
      value = value << 8 | std::to_integer<std::uint32_t>(bytes_[at + (little_ ? count - 1 - i : i)]);
    return value;
  }
  bool is_tiff() const noexcept { return (little_ || number(0, 2) == 0x4d4d) && number(2, 2) == 42; }

private:
  std::span<const std::byte> bytes_;
  bool little_;
};

/// Of the types in which a whole number may stand, as PIL believes them all.
constexpr std::size_t bytes_of_type(std::uint32_t type) noexcept {
  return type == 1 ? 1 : type == 3 ? 2 : type == 4 ? 4 : 0;
}

/// Where the pixel at (x, y) of the upright picture is stored.
struct place {
  std::uint32_t x = 0;
  std::uint32_t y = 0;
};
place stored_at(orientation how, const rgb_picture& stored, std::uint32_t x, std::uint32_t y) noexcept {
  const auto right = stored.width - 1;
  const auto bottom = stored.height - 1;
  switch (how) {
  case orientation::upright:
    break;
  case orientation::mirrored:
    return {right - x, y};
  case orientation::turned_half:
    return {right - x, bottom - y};
  case orientation::mirrored_turned_half:
    return {x, bottom - y};
  case orientation::transposed:
    return {y, x};
  case orientation::turned_right:
    return {y, bottom - x};
  case orientation::transversed:
    return {right - y, bottom - x};
  case orientation::turned_left:
    return {right - y, x};
  }
  return {x, y};
}

} // namespace

orientation orientation_of(std::span<const std::byte> exif) noexcept {
  const tiff_reader from{exif};
  if (!from.is_tiff())
    return orientation::upright;
  const std::size_t directory = from.number(4, 4);
  const auto entries = directory < header_bytes ? 0 : from.number(directory, 2);
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::size_t at = directory + 2 + i * entry_bytes;
    if (from.number(at, 2) != orientation_tag)
      continue;
    const auto value = from.number(at + 8, bytes_of_type(from.number(at + 2, 2)));
    return value >= 1 && value <= 8 ? static_cast<orientation>(value) : orientation::upright;
  }
  return orientation::upright;
}

protocols::result<rgb_picture> turn(rgb_picture stored, orientation how, const keeps_on& goes_on) {
  if (how == orientation::upright)
    return stored;
  const bool on_its_side = how >= orientation::transposed;
  rgb_picture out{.height = on_its_side ? stored.width : stored.height,
                  .width = on_its_side ? stored.height : stored.width,
                  .rgb = std::vector<std::byte>(stored.rgb.size())};
  auto to = out.rgb.begin();
  for (std::uint32_t y = 0; y < out.height; ++y) {
    if (goes_on && !goes_on())
      return protocols::fail(protocols::fault::cancelled, given_up_words);
    for (std::uint32_t x = 0; x < out.width; ++x) {
      const auto from = stored_at(how, stored, x, y);
      to = std::copy_n(
          stored.rgb.begin() + static_cast<std::ptrdiff_t>((std::size_t{from.y} * stored.width + from.x) * 3), 3, to);
    }
  }
  return out;
}

} // namespace troupe::gpu::models
