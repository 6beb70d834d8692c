#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "gpu/models/picture_codecs.hpp"

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
  explicit decoder(std::span<const std::byte> file) : rest(file) {}
  decoder(const decoder&) = delete;
  decoder& operator=(const decoder&) = delete;
  ~decoder() { png_destroy_read_struct(&png, &info, nullptr); }

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
  png_set_expand(self.png);
  png_set_strip_16(self.png);
  png_set_strip_alpha(self.png);
  png_set_gray_to_rgb(self.png);
  return true;
}

/// `rgb` holds height x width x 3 bytes.
bool read_rows(decoder& self, std::byte* rgb, std::uint32_t height, std::size_t row_bytes) {
  if (setjmp(png_jmpbuf(self.png)))
    return false;
  const int passes = png_set_interlace_handling(self.png);
  png_read_update_info(self.png, self.info);
  if (png_get_rowbytes(self.png, self.info) != row_bytes)
    png_error(self.png, "its rows do not become RGB");
  for (int pass = 0; pass < passes; ++pass)
    for (std::uint32_t row = 0; row < height; ++row)
      png_read_row(self.png, reinterpret_cast<png_bytep>(rgb + row * row_bytes), nullptr);
  png_read_end(self.png, nullptr);
  return true;
}

} // namespace

bool is_png(std::span<const std::byte> file) noexcept {
  return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
}

protocols::result<rgb_picture> read_png(const picture_file& file) {
  if (file.bytes.size() < header_bytes)
    return file.bad("truncated");
  const auto* header = reinterpret_cast<png_const_bytep>(file.bytes.data()) + magic.size() + 8;
  rgb_picture out{.height = png_get_uint_32(header + 4), .width = png_get_uint_32(header), .rgb = {}};
  if (auto fits = file.judge(out.width, out.height); !fits)
    return tl::make_unexpected(fits.error());

  decoder self{file.bytes};
  if (!read_header(self, file.side_max))
    return file.bad(self.error.data());
  // Of a file with two headers libpng believes the one that it met.
  out.width = png_get_image_width(self.png, self.info);
  out.height = png_get_image_height(self.png, self.info);
  const std::size_t row_bytes = std::size_t{out.width} * 3;
  out.rgb.resize(row_bytes * out.height);
  if (!read_rows(self, out.rgb.data(), out.height, row_bytes))
    return file.bad(self.error.data());
  return out;
}

} // namespace troupe::gpu::models
