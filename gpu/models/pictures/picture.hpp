#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "gpu/models/model.hpp"
#include "protocols/fault.hpp"

/// Picture files to what the vision tower takes.
namespace troupe::gpu::models {

/// RGB u8 [height, width, 3].
struct rgb_picture {
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  std::vector<std::byte> rgb;
};

/// Asked at each step of long work, which is a row or less than a row takes: false gives the work up. Empty: never.
/// It must not throw: libraries in C lie between.
using keeps_on = std::function<bool()>;

/// PNG, JPEG or WebP, by their magic, as PIL's `convert("RGB")` reads it, upright (EXIF orientation) and on white where
/// it is transparent, as the published utilities of Qwen do. Size and scans are checked before anything is decoded or
/// allocated.
/// Contract: K7, K10.
/// Errors: bad_picture ("page.png: 20000 x 64 pixels; at most 8192 a side"; "0 bytes"; "neither PNG nor JPEG nor WebP";
/// "truncated"; the library's own words); cancelled, by `goes_on`. Never crashes or exits on hostile input;
/// memory is bounded by side_max and limits::picture_pixels_max, time by limits::picture_pixel_scans_max.
protocols::result<rgb_picture> read_picture(std::span<const std::byte> file, std::string_view name,
                                            std::uint32_t side_max, const keeps_on& goes_on = {});

/// What the header promises, without decoding anything; 0 for what is no picture.
std::uint64_t pixels_promised(std::span<const std::byte> file) noexcept;

/// Height and width (multiples of patch x merge) that the preprocessor's `size` asks for; the published "smart resize".
/// Errors: bad_picture for an aspect ratio above 200.
protocols::result<std::pair<std::uint32_t, std::uint32_t>> resized_shape(const model_facts& facts, std::uint32_t height,
                                                                         std::uint32_t width);

/// Bicubic with antialias on u8, as the published fast processor (torchvision) does it: a = -0.5, separable, rounded.
/// Returns the picture unchanged when the shape is already that. Errors: cancelled, by `goes_on`.
protocols::result<rgb_picture> resize(rgb_picture picture, std::uint32_t height, std::uint32_t width,
                                      const keeps_on& goes_on = {});

/// Rescaled, normalised patches in merge order: f32 [patches, channels * temporal * patch * patch].
/// Mean, deviation and rescale factor from preprocessor_config.json.
struct normalisation {
  double rescale = 1.0 / 255.0;
  std::array<double, 3> mean{0.5, 0.5, 0.5};
  std::array<double, 3> deviation{0.5, 0.5, 0.5};
  std::uint32_t patch = 16;
  std::uint32_t temporal = 2;
  std::uint32_t merge = 2;
};
protocols::result<normalisation> read_normalisation(const std::filesystem::path& folder);
void patchify(std::span<const std::byte> rgb, std::uint32_t height, std::uint32_t width, const normalisation& how,
              std::span<float> patches);

} // namespace troupe::gpu::models
