#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
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

/// PNG or JPEG, by their magic. The header is judged before anything of its size is allocated.
/// Errors: bad_picture ("page.png: 20000 x 64 pixels; at most 8192 a side"; "0 bytes"; "neither PNG nor JPEG";
/// "truncated"; libpng's or libjpeg's own words). Never crashes or exits on hostile input; memory is bounded by
/// side_max.
protocols::result<rgb_picture> read_picture(std::span<const std::byte> file, std::string_view name,
                                            std::uint32_t side_max);

/// Height and width (multiples of patch x merge) that the preprocessor's `size` asks for; the published "smart resize".
/// Errors: bad_picture for an aspect ratio above 200.
protocols::result<std::pair<std::uint32_t, std::uint32_t>> resized_shape(const model_facts& facts, std::uint32_t height,
                                                                         std::uint32_t width);

/// Bicubic with antialias on u8, as the published fast processor (torchvision) does it: a = -0.5, separable, rounded.
/// Returns the picture unchanged when the shape is already that.
rgb_picture resize(const rgb_picture& picture, std::uint32_t height, std::uint32_t width);

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
