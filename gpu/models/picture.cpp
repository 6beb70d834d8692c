#include "gpu/models/picture.hpp"

#include <fmt/format.h>

#include "gpu/models/picture_codecs.hpp"

namespace troupe::gpu::models {

tl::unexpected<protocols::failure> picture_file::bad(std::string_view what) const {
  return protocols::fail(protocols::fault::bad_picture, fmt::format("{}: {}", name, what));
}

protocols::result<void> picture_file::judge(std::uint32_t width, std::uint32_t height) const {
  if (width == 0 || height == 0)
    return bad(fmt::format("{} x {} pixels; a picture has at least one", width, height));
  if (width > side_max || height > side_max)
    return bad(fmt::format("{} x {} pixels; at most {} a side", width, height, side_max));
  return {};
}

protocols::result<rgb_picture> read_picture(std::span<const std::byte> bytes, std::string_view name,
                                            std::uint32_t side_max) {
  const picture_file file{bytes, name, side_max};
  if (bytes.empty())
    return file.bad("0 bytes");
  if (is_png(bytes))
    return read_png(file);
  if (is_jpeg(bytes))
    return read_jpeg(file);
  return file.bad("neither PNG nor JPEG");
}

} // namespace troupe::gpu::models
