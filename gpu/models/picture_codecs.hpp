#pragma once

#include "gpu/models/picture.hpp"

/// The two decoders behind `read_picture`. Both libraries report errors by longjmp: it may only cross their own frames
/// and trivial ones of ours.
namespace troupe::gpu::models {

/// What `read_picture` was asked, for the decoders.
struct picture_file {
  std::span<const std::byte> bytes;
  std::string_view name;
  std::uint32_t side_max = 0;

  tl::unexpected<protocols::failure> bad(std::string_view what) const;
  /// Errors: bad_picture for a side that is 0 or above side_max.
  protocols::result<void> judge(std::uint32_t width, std::uint32_t height) const;
};

bool is_png(std::span<const std::byte> file) noexcept;
bool is_jpeg(std::span<const std::byte> file) noexcept;

/// What PIL's `convert("RGB")` makes of it: palettes looked up, gray repeated, alpha dropped (not composited), 16 bits
/// cut to the upper 8. PIL clips 16-bit gray instead, which turns nearly every such page white; not followed there.
protocols::result<rgb_picture> read_png(const picture_file& file);

/// Gray and YCbCr or RGB; CMYK is refused. What the file lost is not invented: damage that libjpeg would paper over
/// with gray is an error.
protocols::result<rgb_picture> read_jpeg(const picture_file& file);

} // namespace troupe::gpu::models
