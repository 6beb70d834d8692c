#pragma once

#include "gpu/models/pictures/picture.hpp"

/// The decoders behind `read_picture`. libpng and libjpeg report errors by longjmp: it may only cross their own frames
/// and trivial ones of ours.
namespace troupe::gpu::models {

/// What `read_picture` was asked, for the decoders.
struct picture_file {
  std::span<const std::byte> bytes;
  std::string_view name;
  std::uint32_t side_max = 0;
  const keeps_on& goes_on;

  tl::unexpected<protocols::failure> bad(std::string_view what) const;
  /// Of a decoder that came back early: why, in the library's words, or that it was told to.
  tl::unexpected<protocols::failure> ended(std::string_view what) const;
  /// Errors: bad_picture for a side that is 0 or above side_max, and for too many pixels.
  protocols::result<void> validate(std::uint32_t width, std::uint32_t height) const;
  bool given_up() const noexcept { return goes_on && !goes_on(); }
};

/// What a decoder says where `goes_on` said no: it comes back through C, by longjmp.
inline constexpr const char* given_up_words = "given up";

/// What a header says of the picture behind it; all 0 where it says nothing, and 65535 where it hides it.
struct picture_size {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
};

bool is_png(std::span<const std::byte> file) noexcept;
bool is_jpeg(std::span<const std::byte> file) noexcept;
bool is_webp(std::span<const std::byte> file) noexcept;
picture_size png_size(std::span<const std::byte> file) noexcept;
picture_size jpeg_size(std::span<const std::byte> file) noexcept;
picture_size webp_size(std::span<const std::byte> file) noexcept;

/// RGBA to RGB in place: what is written is never ahead of what is read. False: given up.
bool lay_over_white(const picture_file& file, rgb_picture& picture);

/// Palettes looked up, gray repeated, 16 bits cut to the upper 8, alpha (a channel, a palette's or the colour that
/// stands for it) laid over white. Gamma and profiles are ignored, as PIL does. PIL clips 16-bit gray instead of
/// cutting it, which turns nearly every such page white; not followed there.
protocols::result<rgb_picture> read_png(const picture_file& file);

/// Gray, YCbCr, RGB, and CMYK and YCCK as Adobe writes them (inverted), which PIL believes of every file. What the file
/// lost is not invented: damage that libjpeg would paper over with gray is an error.
protocols::result<rgb_picture> read_jpeg(const picture_file& file);

/// Lossy and lossless, alpha laid over white. An animation is refused. Its memory is bounded like a PNG's: libwebp
/// takes 4 bytes a pixel more for a lossless one. It is taken in some hundred pieces, so a hostile file of few bytes
/// decodes in one; the largest picture takes under a second.
protocols::result<rgb_picture> read_webp(const picture_file& file);

} // namespace troupe::gpu::models
