#include <algorithm>
#include <optional>

#include "gpu/models/json_file.hpp"
#include "gpu/models/pictures/picture.hpp"
#include "gpu/models/pictures/preprocessor.hpp"
#include "runtime/base/assert.hpp"

namespace troupe::gpu::models {
namespace {

/// The three numbers under `key`, 0 among them where `zero`; `otherwise` where it is absent.
std::array<double, 3> channels_or(const nlohmann::json& object, const char* key, std::array<double, 3> otherwise,
                                  bool zero, key_reader& from) {
  if (!from.has(key))
    return otherwise;
  const auto& values = object[key];
  const auto is_valid = [&](const nlohmann::json& value) {
    return value.is_number() && (value.get<double>() > 0.0 || (zero && value.get<double>() == 0.0));
  };
  if (!values.is_array() || values.size() != otherwise.size() || !std::ranges::all_of(values, is_valid)) {
    from.refuse(key, zero ? "three numbers of at least 0" : "three positive numbers");
    return otherwise;
  }
  return values.get<std::array<double, 3>>();
}

} // namespace

protocols::result<normalisation> read_normalisation(const std::filesystem::path& folder) {
  constexpr std::uint32_t side_max = 1024;
  const auto found = find_preprocessor(folder);
  if (!found)
    return tl::make_unexpected(found.error());

  std::optional<protocols::failure> problem;
  key_reader from{found->object, found->where, problem};
  normalisation out;
  out.rescale = from.number_or("rescale_factor", out.rescale);
  out.mean = channels_or(found->object, "image_mean", out.mean, true, from);
  out.deviation = channels_or(found->object, "image_std", out.deviation, false, from);
  out.patch = from.count_or("patch_size", out.patch, side_max);
  out.temporal = from.count_or("temporal_patch_size", out.temporal, side_max);
  out.merge = from.count_or("merge_size", out.merge, side_max);
  if (problem)
    return tl::make_unexpected(*problem);
  return out;
}

void patchify(std::span<const std::byte> rgb, std::uint32_t height, std::uint32_t width, const normalisation& how,
              std::span<float> patches) {
  const std::size_t patch = how.patch, merge = how.merge, block = patch * merge;
  TROUPE_ASSERT("patchify", rgb.size() == std::size_t{height} * width * 3);
  TROUPE_ASSERT("patchify", height % block == 0 && width % block == 0);
  TROUPE_ASSERT("patchify", patches.size() == rgb.size() * how.temporal);

  std::array<std::array<float, 256>, 3> normalised;
  for (std::size_t channel = 0; channel < 3; ++channel)
    for (std::size_t value = 0; value < 256; ++value)
      normalised[channel][value] =
          static_cast<float>((static_cast<double>(value) * how.rescale - how.mean[channel]) / how.deviation[channel]);

  // Merge order: the patches that become one token stand together, row by row within their block.
  float* out = patches.data();
  const auto write_patch = [&](std::size_t top, std::size_t left) {
    for (std::size_t channel = 0; channel < 3; ++channel)
      for (std::size_t frame = 0; frame < how.temporal; ++frame) // a still picture is a film of equal frames
        for (std::size_t y = top; y < top + patch; ++y)
          for (std::size_t x = left; x < left + patch; ++x)
            *out++ = normalised[channel][std::to_integer<std::size_t>(rgb[(y * width + x) * 3 + channel])];
  };
  for (std::size_t top = 0; top < height; top += block)
    for (std::size_t left = 0; left < width; left += block)
      for (std::size_t row = 0; row < merge; ++row)
        for (std::size_t column = 0; column < merge; ++column)
          write_patch(top + row * patch, left + column * patch);
}

} // namespace troupe::gpu::models
