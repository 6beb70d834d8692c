#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "gpu/models/pictures/picture.hpp"
#include "gpu/models/pictures/picture_codecs.hpp"
#include "runtime/base/assert.hpp"

namespace troupe::gpu::models {
namespace {

constexpr std::size_t channels = 3;
constexpr double aspect_max = 200.0; ///< of the published smart resize

/// Python's round: halves go to the even neighbour, which is what nearbyint does in the default rounding mode.
std::uint64_t nearest_multiple(std::uint32_t side, std::uint32_t factor) {
  return static_cast<std::uint64_t>(std::nearbyint(static_cast<double>(side) / factor)) * factor;
}

/// What one output pixel takes of a line: `count` input pixels from `first`.
struct taps {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};

/// Weights of every output pixel along one axis, as integers over 2^precision.
struct axis {
  std::vector<taps> of;
  std::vector<std::int32_t> weights; ///< [output, width]
  std::uint32_t width = 0;
  int precision = 0;
};

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0)
    return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0)
    return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

/// The cubic is stretched over the pixels that shrink to one (antialias), then rounded to 16-bit integers with as many
/// bits as the largest weight leaves: the products of u8 and these are what torchvision adds up, to the bit.
axis make_axis(std::uint32_t input, std::uint32_t output) {
  const double scale = static_cast<double>(input) / output;
  const double stretch = std::max(scale, 1.0);
  const double support = 2.0 * stretch;

  axis out;
  out.width = static_cast<std::uint32_t>(std::ceil(support)) * 2 + 1;
  std::vector<double> exact(std::size_t{output} * out.width, 0.0);
  for (std::uint32_t i = 0; i < output; ++i) {
    const double centre = scale * (i + 0.5);
    const auto first = static_cast<std::uint32_t>(std::max(centre - support + 0.5, 0.0));
    const auto last = std::min(static_cast<std::uint32_t>(centre + support + 0.5), input);
    const taps t{first, std::min(last - first, out.width)};
    double* row = exact.data() + std::size_t{i} * out.width;
    double total = 0.0;
    for (std::uint32_t j = 0; j < t.count; ++j)
      total += row[j] = cubic((j + first - centre + 0.5) / stretch);
    for (std::uint32_t j = 0; j < t.count; ++j)
      row[j] /= total;
    out.of.push_back(t);
  }

  const double largest = *std::max_element(exact.begin(), exact.end());
  while (out.precision < 22 && 0.5 + largest * (1 << (out.precision + 1)) < (1 << 15))
    ++out.precision;
  for (double weight : exact)
    out.weights.push_back(static_cast<std::int32_t>(weight * (1 << out.precision) + (weight < 0 ? -0.5 : 0.5)));
  return out;
}

/// Resamples along one axis. `in` is [outer, input, inner] u8, the result [outer, output, inner]; empty when given up.
std::vector<std::byte> resample(const std::vector<std::byte>& in, std::size_t outer, std::size_t input,
                                std::size_t inner, const axis& along, const keeps_on& goes_on) {
  const std::size_t output = along.of.size();
  const std::int32_t half = 1 << (along.precision - 1);
  std::vector<std::byte> out(outer * output * inner);
  for (std::size_t o = 0; o < outer; ++o)
    for (std::size_t i = 0; i < output; ++i) {
      const bool row_begins = i == 0 || inner > channels;
      if (row_begins && goes_on && !goes_on())
        return {};
      const std::int32_t* weights = along.weights.data() + i * along.width;
      const std::byte* from = in.data() + (o * input + along.of[i].first) * inner;
      std::byte* to = out.data() + (o * output + i) * inner;
      for (std::size_t k = 0; k < inner; ++k) {
        std::int32_t sum = half;
        for (std::uint32_t j = 0; j < along.of[i].count; ++j)
          sum += weights[j] * std::to_integer<std::int32_t>(from[j * inner + k]);
        to[k] = static_cast<std::byte>(std::clamp(sum >> along.precision, 0, 255));
      }
    }
  return out;
}

} // namespace

protocols::result<std::pair<std::uint32_t, std::uint32_t>> resized_shape(const model_facts& facts, std::uint32_t height,
                                                                         std::uint32_t width) {
  const auto bad = [&](std::string_view what) {
    return protocols::fail(protocols::fault::bad_picture, fmt::format("{} x {} pixels: {}", width, height, what));
  };
  if (height == 0 || width == 0)
    return bad("a picture has at least one");
  if (std::max(height, width) > aspect_max * std::min(height, width))
    return bad(fmt::format("one side is more than {} times the other", aspect_max));

  const std::uint32_t factor = facts.patch_pixels * facts.merge;
  const double pixels = static_cast<double>(height) * width;
  std::uint64_t high = nearest_multiple(height, factor);
  std::uint64_t wide = nearest_multiple(width, factor);
  if (high * wide > facts.picture_pixels_max) {
    const double shrink = std::sqrt(pixels / static_cast<double>(facts.picture_pixels_max));
    const auto fit = [&](std::uint32_t side) {
      const auto units = static_cast<std::uint64_t>(std::floor(side / shrink / factor));
      return std::max<std::uint64_t>(factor, units * factor);
    };
    high = fit(height);
    wide = fit(width);
  } else if (high * wide < facts.picture_pixels_min) {
    const double grow = std::sqrt(static_cast<double>(facts.picture_pixels_min) / pixels);
    const auto fit = [&](std::uint32_t side) {
      return static_cast<std::uint64_t>(std::ceil(side * grow / factor)) * factor;
    };
    high = fit(height);
    wide = fit(width);
  }
  // The published rule keeps one token across whatever the other side asks for; every buffer is sized by the maximum.
  if (high == 0 || wide == 0 || high * wide > facts.picture_pixels_max)
    return bad(fmt::format("resized to {} x {}, outside the {} to {} pixels that the model takes", wide, high,
                           facts.picture_pixels_min, facts.picture_pixels_max));
  return std::pair{static_cast<std::uint32_t>(high), static_cast<std::uint32_t>(wide)};
}

protocols::result<rgb_picture> resize(rgb_picture out, std::uint32_t height, std::uint32_t width,
                                      const keeps_on& goes_on) {
  TROUPE_ASSERT("resize", out.height > 0 && out.width > 0 && height > 0 && width > 0);
  if (width != out.width) {
    out.rgb = resample(out.rgb, out.height, out.width, channels, make_axis(out.width, width), goes_on);
    out.width = width;
  }
  if (height != out.height && !out.rgb.empty()) {
    out.rgb = resample(out.rgb, 1, out.height, out.width * channels, make_axis(out.height, height), goes_on);
    out.height = height;
  }
  if (out.rgb.empty())
    return protocols::fail(protocols::fault::cancelled, given_up_words);
  return out;
}

} // namespace troupe::gpu::models
