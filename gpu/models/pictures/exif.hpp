#pragma once

#include "gpu/models/pictures/picture.hpp"

/// Which way up a picture was stored. Cameras store what the sensor saw and say in EXIF how it was held.
namespace troupe::gpu::models {

/// The values of EXIF's tag: what must be done to the stored picture to see it upright.
enum class orientation : std::uint8_t {
  upright = 1,
  mirrored = 2,             ///< left and right
  turned_half = 3,          ///< upside down
  mirrored_turned_half = 4, ///< top and bottom
  transposed = 5,           ///< along the diagonal from the top left
  turned_right = 6,         ///< by a quarter, clockwise
  transversed = 7,          ///< along the other diagonal
  turned_left = 8,          ///< by a quarter, anticlockwise
};

/// From an EXIF block, which begins with its TIFF header; upright where it says nothing that can be believed.
orientation orientation_of(std::span<const std::byte> exif) noexcept;

/// The stored picture as it is to be seen. Errors: cancelled, by `goes_on`.
protocols::result<rgb_picture> turn(rgb_picture stored, orientation how, const keeps_on& goes_on);

} // namespace troupe::gpu::models
