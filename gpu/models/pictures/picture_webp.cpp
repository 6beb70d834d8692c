#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include <webp/decode.h>

#include "gpu/models/pictures/exif.hpp"
#include "gpu/models/pictures/picture_codecs.hpp"

namespace troupe::gpu::models {
namespace {

/// "RIFF", the bytes behind this field, "WEBP".
constexpr std::size_t riff_bytes = 12;
constexpr std::size_t chunk_head_bytes = 8;
/// libwebp takes a file piece by piece, so that the reader is seen to get on: each costs about so much of the picture.
constexpr std::size_t pieces = 512;
constexpr std::size_t piece_bytes_min = 64;

const std::uint8_t* octets(std::span<const std::byte> bytes) {
  return reinterpret_cast<const std::uint8_t*>(bytes.data());
}

bool has_tag(std::span<const std::byte> bytes, std::string_view tag) {
  return bytes.size() >= tag.size() && std::memcmp(bytes.data(), tag.data(), tag.size()) == 0;
}

std::uint32_t little(std::span<const std::byte> four) {
  std::uint32_t out = 0;
  for (std::size_t i = 4; i-- > 0;)
    out = out << 8 | std::to_integer<std::uint32_t>(four[i]);
  return out;
}

/// libwebp would take a file that ends behind its last row for whole.
bool is_whole(std::span<const std::byte> file) {
  return file.size() >= riff_bytes && little(file.subspan(4)) <= file.size() - chunk_head_bytes;
}

/// EXIF stands in a chunk of its own, as a rule behind the pixels.
orientation orientation_in(std::span<const std::byte> file) {
  constexpr std::string_view mark{"Exif\0\0", 6};
  constexpr int chunks_max = 256;
  std::size_t at = riff_bytes;
  for (int i = 0; i < chunks_max && file.size() >= at + chunk_head_bytes; ++i) {
    const auto chunk = file.subspan(at);
    const std::size_t length = little(chunk.subspan(4));
    const auto body = chunk.subspan(chunk_head_bytes, std::min(length, chunk.size() - chunk_head_bytes));
    if (has_tag(chunk, "EXIF"))
      return orientation_of(has_tag(body, mark) ? body.subspan(mark.size()) : body);
    at += chunk_head_bytes + length + length % 2;
  }
  return orientation::upright;
}

std::string_view words_of(VP8StatusCode status) {
  switch (status) {
  case VP8_STATUS_OK:
    return "decoded";
  case VP8_STATUS_SUSPENDED:
  case VP8_STATUS_NOT_ENOUGH_DATA:
    return "truncated";
  case VP8_STATUS_OUT_OF_MEMORY:
    return "libwebp has no memory for it";
  case VP8_STATUS_UNSUPPORTED_FEATURE:
    return "a form of WebP that libwebp does not know";
  case VP8_STATUS_USER_ABORT:
    return given_up_words;
  case VP8_STATUS_INVALID_PARAM:
  case VP8_STATUS_BITSTREAM_ERROR:
    break;
  }
  return "not a WebP that can be decoded";
}

/// `pixels` holds height x `row_bytes`, of 3 bytes a pixel or 4 with alpha.
VP8StatusCode read_rows(const picture_file& file, std::span<std::byte> pixels, std::size_t row_bytes, bool with_alpha) {
  WebPDecoderConfig how;
  if (!WebPInitDecoderConfig(&how))
    return VP8_STATUS_INVALID_PARAM;
  how.output.colorspace = with_alpha ? MODE_RGBA : MODE_RGB;
  how.output.is_external_memory = 1;
  how.output.u.RGBA.rgba = reinterpret_cast<std::uint8_t*>(pixels.data());
  how.output.u.RGBA.stride = static_cast<int>(row_bytes);
  how.output.u.RGBA.size = pixels.size();
  const std::unique_ptr<WebPIDecoder, decltype(&WebPIDelete)> decoder{WebPIDecode(nullptr, 0, &how), WebPIDelete};
  if (!decoder)
    return VP8_STATUS_OUT_OF_MEMORY;
  const std::size_t piece = std::max(piece_bytes_min, file.bytes.size() / pieces);
  for (std::size_t given = 0; given < file.bytes.size();) {
    if (file.given_up())
      return VP8_STATUS_USER_ABORT;
    given = std::min(file.bytes.size(), given + piece);
    if (const auto status = WebPIUpdate(decoder.get(), octets(file.bytes), given); status != VP8_STATUS_SUSPENDED)
      return status;
  }
  return VP8_STATUS_SUSPENDED;
}

} // namespace

bool is_webp(std::span<const std::byte> file) noexcept {
  return file.size() >= riff_bytes && has_tag(file, "RIFF") && has_tag(file.subspan(8), "WEBP");
}

picture_size webp_size(std::span<const std::byte> file) noexcept {
  int width = 0, height = 0;
  if (!WebPGetInfo(octets(file), file.size(), &width, &height))
    return {};
  return {.width = static_cast<std::uint32_t>(width), .height = static_cast<std::uint32_t>(height)};
}

protocols::result<rgb_picture> read_webp(const picture_file& file) {
  WebPBitstreamFeatures header;
  if (const auto status = WebPGetFeatures(octets(file.bytes), file.bytes.size(), &header); status != VP8_STATUS_OK)
    return file.ended(words_of(status));
  rgb_picture out{.height = static_cast<std::uint32_t>(header.height),
                  .width = static_cast<std::uint32_t>(header.width),
                  .rgb = {}};
  if (auto fits = file.validate(out.width, out.height); !fits)
    return tl::make_unexpected(fits.error());
  if (header.has_animation)
    return file.bad("an animated WebP; a still one is read");
  if (!is_whole(file.bytes))
    return file.bad("truncated");
  const bool transparent = header.has_alpha != 0;
  const std::size_t row_bytes = std::size_t{out.width} * (transparent ? 4 : 3);
  out.rgb.resize(row_bytes * out.height);
  if (const auto status = read_rows(file, out.rgb, row_bytes, transparent); status != VP8_STATUS_OK)
    return file.ended(words_of(status));
  if (transparent && !lay_over_white(file, out))
    return file.ended(given_up_words);
  return turn(std::move(out), orientation_in(file.bytes), file.goes_on);
}

} // namespace troupe::gpu::models
