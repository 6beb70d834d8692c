#include <cstddef>
#include <cstdio> // jpeglib.h needs it and does not include it

#include <jerror.h>
#include <jpeglib.h>

#include <array>
#include <csetjmp>
#include <string>

#include "gpu/models/picture_codecs.hpp"

namespace troupe::gpu::models {
namespace {

/// A progressive file may hold any number of scans over the whole picture, each costing its full time.
constexpr int scans_max = 500;

/// One file being decoded; libjpeg holds its address by `client_data`.
struct decoder {
  decoder() = default;
  decoder(const decoder&) = delete;
  decoder& operator=(const decoder&) = delete;
  ~decoder() { jpeg_destroy_decompress(&jpeg); }

  jpeg_decompress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf landing{};
  std::array<char, JMSG_LENGTH_MAX> error{};
};

decoder& of(j_common_ptr jpeg) {
  return *static_cast<decoder*>(jpeg->client_data);
}

[[noreturn]] void give_up(j_common_ptr jpeg, const char* words) {
  std::snprintf(of(jpeg).error.data(), of(jpeg).error.size(), "%s", words);
  std::longjmp(of(jpeg).landing, 1);
}

[[noreturn]] void on_error(j_common_ptr jpeg) {
  jpeg->err->format_message(jpeg, of(jpeg).error.data());
  std::longjmp(of(jpeg).landing, 1);
}

/// Warnings are what libjpeg repairs on its own. Only those that lose no pixel are let pass.
void on_message(j_common_ptr jpeg, int level) {
  if (level >= 0)
    return;
  switch (jpeg->err->msg_code) {
  case JWRN_ADOBE_XFORM:
  case JWRN_EXTRANEOUS_DATA:
  case JWRN_NOT_SEQUENTIAL:
  case JWRN_TOO_MUCH_DATA:
    return;
  case JWRN_JPEG_EOF:
    give_up(jpeg, "truncated");
  default:
    on_error(jpeg);
  }
}

void on_output(j_common_ptr) {}

void on_progress(j_common_ptr jpeg) {
  if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number > scans_max)
    give_up(jpeg, "more scans than any picture needs");
}

// The two functions below are where longjmp lands: they hold nothing that has a destructor.

bool read_header(decoder& self, const unsigned char* bytes, unsigned long count) {
  self.jpeg.err = jpeg_std_error(&self.errors);
  self.errors.error_exit = on_error;
  self.errors.emit_message = on_message;
  self.errors.output_message = on_output;
  self.jpeg.client_data = &self;
  if (setjmp(self.landing))
    return false;
  jpeg_create_decompress(&self.jpeg);
  self.progress.progress_monitor = on_progress;
  self.jpeg.progress = &self.progress;
  jpeg_mem_src(&self.jpeg, bytes, count);
  jpeg_read_header(&self.jpeg, TRUE);
  return true;
}

/// `rgb` holds height x width x 3 bytes.
bool read_rows(decoder& self, std::byte* rgb, std::size_t row_bytes) {
  if (setjmp(self.landing))
    return false;
  self.jpeg.out_color_space = JCS_RGB;
  jpeg_start_decompress(&self.jpeg);
  while (self.jpeg.output_scanline < self.jpeg.output_height) {
    JSAMPROW row = reinterpret_cast<JSAMPROW>(rgb + self.jpeg.output_scanline * row_bytes);
    jpeg_read_scanlines(&self.jpeg, &row, 1);
  }
  jpeg_finish_decompress(&self.jpeg);
  return true;
}

bool is_readable(J_COLOR_SPACE space) {
  return space == JCS_GRAYSCALE || space == JCS_RGB || space == JCS_YCbCr;
}

} // namespace

bool is_jpeg(std::span<const std::byte> file) noexcept {
  return file.size() >= 3 && file[0] == std::byte{0xff} && file[1] == std::byte{0xd8} && file[2] == std::byte{0xff};
}

protocols::result<rgb_picture> read_jpeg(const picture_file& file) {
  decoder self;
  if (!read_header(self, reinterpret_cast<const unsigned char*>(file.bytes.data()), file.bytes.size()))
    return file.bad(self.error.data());
  if (auto fits = file.judge(self.jpeg.image_width, self.jpeg.image_height); !fits)
    return tl::make_unexpected(fits.error());
  if (!is_readable(self.jpeg.jpeg_color_space))
    return file.bad("CMYK or an unknown colour space; gray, RGB and YCbCr are read");

  rgb_picture out{.height = self.jpeg.image_height, .width = self.jpeg.image_width, .rgb = {}};
  const std::size_t row_bytes = std::size_t{out.width} * 3;
  out.rgb.resize(row_bytes * out.height);
  if (!read_rows(self, out.rgb.data(), row_bytes))
    return file.bad(self.error.data());
  return out;
}

} // namespace troupe::gpu::models
