#include "gpu/models/pictures/picture.hpp"

#include <fmt/format.h>

#include "gpu/models/pictures/picture_codecs.hpp"
#include "protocols/limits.hpp"

namespace troupe::gpu::models {
namespace {

/// A sample over white, rounded as PIL's `paste` does.
std::byte over_white(std::byte sample, unsigned alpha) {
  const unsigned scaled = std::to_integer<unsigned>(sample) * alpha + 255 * (255 - alpha) + 128;
  return static_cast<std::byte>((scaled + (scaled >> 8)) >> 8);
}

} // namespace

bool lay_over_white(const picture_file& file, rgb_picture& picture) {
  const std::byte* from = picture.rgb.data();
  std::byte* to = picture.rgb.data();
  for (std::uint32_t row = 0; row < picture.height; ++row) {
    if (file.given_up())
      return false;
    for (std::uint32_t column = 0; column < picture.width; ++column, from += 4)
      for (std::size_t channel = 0; channel < 3; ++channel)
        *to++ = over_white(from[channel], std::to_integer<unsigned>(from[3]));
  }
  picture.rgb.resize(std::size_t{picture.height} * picture.width * 3);
  return true;
}

tl::unexpected<protocols::failure> picture_file::bad(std::string_view what) const {
  return protocols::fail(protocols::fault::bad_picture, fmt::format("{}: {}", name, what));
}

tl::unexpected<protocols::failure> picture_file::ended(std::string_view what) const {
  return what == given_up_words ? protocols::fail(protocols::fault::cancelled, fmt::format("{}: {}", name, what))
                                : bad(what);
}

protocols::result<void> picture_file::validate(std::uint32_t width, std::uint32_t height) const {
  if (width == 0 || height == 0)
    return bad(fmt::format("{} x {} pixels; a picture has at least one", width, height));
  if (width > side_max || height > side_max)
    return bad(fmt::format("{} x {} pixels; at most {} a side", width, height, side_max));
  if (const auto pixels = std::uint64_t{width} * height; pixels > protocols::limits::picture_pixels_max)
    return bad(fmt::format("{} x {} pixels, which are {}; at most {}", width, height, pixels,
                           protocols::limits::picture_pixels_max));
  return {};
}

protocols::result<rgb_picture> read_picture(std::span<const std::byte> bytes, std::string_view name,
                                            std::uint32_t side_max, const keeps_on& goes_on) {
  const picture_file file{bytes, name, side_max, goes_on};
  if (bytes.empty())
    return file.bad("0 bytes");
  if (is_png(bytes))
    return read_png(file);
  if (is_jpeg(bytes))
    return read_jpeg(file);
  if (is_webp(bytes))
    return read_webp(file);
  return file.bad("neither PNG nor JPEG nor WebP");
}

std::uint64_t pixels_promised(std::span<const std::byte> file) noexcept {
  const auto size = is_png(file)    ? png_size(file)
                    : is_jpeg(file) ? jpeg_size(file)
                    : is_webp(file) ? webp_size(file)
                                    : picture_size{};
  return std::uint64_t{size.width} * size.height;
}

} // namespace troupe::gpu::models
