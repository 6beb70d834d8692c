#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "gpu/models/pictures/exif.hpp"
#include "gpu/models/pictures/picture_codecs.hpp"

namespace troupe::gpu::models {
namespace {

constexpr std::array<unsigned char, 8> magic{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
/// Magic, then the length, type, width and height of the header chunk.
constexpr std::size_t header_bytes = magic.size() + 16;
/// No ancillary chunk of a page needs more; a compressed profile could otherwise unpack to anything.
constexpr png_alloc_size_t chunk_bytes_max = 1u << 20;
constexpr png_uint_32 chunks_max = 128;

/// One file being decoded; libpng holds its address.
struct decoder {
  explicit decoder(const picture_file& what) : file(what), rest(what.bytes) {}
  decoder(const decoder&) = delete;
  decoder& operator=(const decoder&) = delete;
  ~decoder() { png_destroy_read_struct(&png, &info, nullptr); }

  /// Ends by longjmp where the work is given up.
  void step() {
    if (file.given_up())
      png_error(png, given_up_words);
  }

  const picture_file& file;
  std::span<const std::byte> rest;
  std::array<char, 160> error{};
  png_structp png = nullptr;
  png_infop info = nullptr;
};

void on_error(png_structp png, png_const_charp words) {
  auto& self = *static_cast<decoder*>(png_get_error_ptr(png));
  std::snprintf(self.error.data(), self.error.size(), "%s", words);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep out, std::size_t count) {
  auto& self = *static_cast<decoder*>(png_get_io_ptr(png));
  if (count > self.rest.size())
    png_error(png, "truncated");
  std::memcpy(out, self.rest.data(), count);
  self.rest = self.rest.subspan(count);
}

// The two functions below are where libpng's longjmp lands: they hold nothing that has a destructor.

bool read_header(decoder& self, std::uint32_t side_max) {
  self.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &self, on_error, on_warning);
  self.info = self.png ? png_create_info_struct(self.png) : nullptr;
  if (!self.info) {
    std::snprintf(self.error.data(), self.error.size(), "libpng cannot start");
    return false;
  }
  if (setjmp(png_jmpbuf(self.png)))
    return false;
  png_set_read_fn(self.png, &self, on_read);
  png_set_user_limits(self.png, side_max, side_max);
  png_set_chunk_malloc_max(self.png, chunk_bytes_max);
  png_set_chunk_cache_max(self.png, chunks_max);
  png_read_info(self.png, self.info);
  png_set_expand(self.png); // a colour that stands for "transparent" is compared in all its bits, before they are cut
  png_set_strip_16(self.png);
  png_set_gray_to_rgb(self.png);
  return true;
}

/// `pixels` holds height x width x 3 bytes, or 4 with alpha.
bool read_rows(decoder& self, std::byte* pixels, std::uint32_t height, std::size_t row_bytes) {
  if (setjmp(png_jmpbuf(self.png)))
    return false;
  const int passes = png_set_interlace_handling(self.png);
  png_read_update_info(self.png, self.info);
  if (png_get_rowbytes(self.png, self.info) != row_bytes)
    png_error(self.png, "its rows do not become RGB");
  for (int pass = 0; pass < passes; ++pass)
    for (std::uint32_t row = 0; row < height; ++row) {
      self.step();
      png_read_row(self.png, reinterpret_cast<png_bytep>(pixels + row * row_bytes), nullptr);
    }
  png_read_end(self.png, self.info);
  return true;
}

bool has_alpha(const decoder& self) {
  return (png_get_color_type(self.png, self.info) & PNG_COLOR_MASK_ALPHA) != 0 ||
         png_get_valid(self.png, self.info, PNG_INFO_tRNS) != 0;
}

/// EXIF may stand behind the pixels.
orientation orientation_in(const decoder& self) {
  png_bytep exif = nullptr;
  png_uint_32 bytes = 0;
  if (png_get_eXIf_1(self.png, self.info, &bytes, &exif) == 0)
    return orientation::upright;
  return orientation_of(std::as_bytes(std::span{exif, bytes}));
}

} // namespace

bool is_png(std::span<const std::byte> file) noexcept {
  return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
}

picture_size png_size(std::span<const std::byte> file) noexcept {
  if (file.size() < header_bytes)
    return {};
  const auto* header = reinterpret_cast<png_const_bytep>(file.data()) + magic.size() + 8;
  return {png_get_uint_32(header), png_get_uint_32(header + 4)};
}

protocols::result<rgb_picture> read_png(const picture_file& file) {
  if (file.bytes.size() < header_bytes)
    return file.bad("truncated");
  const auto promised = png_size(file.bytes);
  if (auto fits = file.validate(promised.width, promised.height); !fits)
    return tl::make_unexpected(fits.error());

  decoder self{file};
  if (!read_header(self, file.side_max))
    return file.ended(self.error.data());
  // Of a file with two headers libpng believes the one that it met.
  rgb_picture out{.height = png_get_image_height(self.png, self.info),
                  .width = png_get_image_width(self.png, self.info),
                  .rgb = {}};
  if (auto fits = file.validate(out.width, out.height); !fits)
    return tl::make_unexpected(fits.error());
  const bool transparent = has_alpha(self);
  const std::size_t row_bytes = std::size_t{out.width} * (transparent ? 4 : 3);
  out.rgb.resize(row_bytes * out.height);
  if (!read_rows(self, out.rgb.data(), out.height, row_bytes))
    return file.ended(self.error.data());
  if (transparent && !lay_over_white(file, out))
    return file.ended(given_up_words);
  return turn(std::move(out), orientation_in(self), file.goes_on);
}

} // namespace troupe::gpu::models
