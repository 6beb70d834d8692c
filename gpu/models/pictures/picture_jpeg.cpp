#include <cstddef>
#include <cstdio> // jpeglib.h needs it and does not include it

#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "gpu/models/pictures/exif.hpp"
#include "gpu/models/pictures/picture_codecs.hpp"
#include "protocols/limits.hpp"

namespace troupe::gpu::models {
namespace {

constexpr std::string_view exif_mark{"Exif\0", 5};
constexpr std::size_t exif_mark_bytes = 6; ///< a byte of padding follows

/// One file being decoded; libjpeg holds its address by `client_data`.
struct decoder {
  explicit decoder(const picture_file& what) : file(what) {}
  decoder(const decoder&) = delete;
  decoder& operator=(const decoder&) = delete;
  ~decoder() { jpeg_destroy_decompress(&jpeg); }

  const picture_file& file;
  int scans_max = static_cast<int>(protocols::limits::picture_scans_max);
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

/// After each row of blocks, of every scan.
void on_progress(j_common_ptr jpeg) {
  if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number > of(jpeg).scans_max)
    give_up(jpeg, "more scans than its markers promise");
  if (of(jpeg).file.given_up())
    give_up(jpeg, given_up_words);
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

/// `pixels` holds height x width x 3 bytes, or 4 of CMYK.
bool read_rows(decoder& self, std::byte* pixels, std::size_t row_bytes) {
  if (setjmp(self.landing))
    return false;
  jpeg_start_decompress(&self.jpeg);
  while (self.jpeg.output_scanline < self.jpeg.output_height) {
    JSAMPROW row = reinterpret_cast<JSAMPROW>(pixels + self.jpeg.output_scanline * row_bytes);
    jpeg_read_scanlines(&self.jpeg, &row, 1);
  }
  jpeg_finish_decompress(&self.jpeg);
  return true;
}

bool is_inked(J_COLOR_SPACE space) {
  return space == JCS_CMYK || space == JCS_YCCK;
}
bool is_readable(J_COLOR_SPACE space) {
  return space == JCS_GRAYSCALE || space == JCS_RGB || space == JCS_YCbCr || is_inked(space);
}

/// What is left of `black` under so much of an ink; all three as Adobe stores them, 255 for none. Rounded as PIL does.
std::byte through_ink(std::byte ink, std::byte black) {
  const auto light = std::to_integer<unsigned>(black);
  const unsigned scaled = (255 - std::to_integer<unsigned>(ink)) * light + 128;
  return static_cast<std::byte>(light - ((scaled + (scaled >> 8)) >> 8));
}

/// CMYK to RGB in place: what is written is never ahead of what is read. False: given up.
bool ink_to_light(const picture_file& file, rgb_picture& picture) {
  const std::byte* from = picture.rgb.data();
  std::byte* to = picture.rgb.data();
  for (std::uint32_t row = 0; row < picture.height; ++row) {
    if (file.given_up())
      return false;
    for (std::uint32_t column = 0; column < picture.width; ++column, from += 4) {
      const std::array<std::byte, 4> inks{from[0], from[1], from[2], from[3]};
      for (std::size_t channel = 0; channel < 3; ++channel)
        *to++ = through_ink(inks[channel], inks[3]);
    }
  }
  picture.rgb.resize(std::size_t{picture.height} * picture.width * 3);
  return true;
}

// ---- the file's own structure, before anything is decoded ---------------------------------------------------------

constexpr unsigned file_ends = 0xd9;
constexpr unsigned scan_begins = 0xda;
constexpr unsigned application_1 = 0xe1;
/// No header of a picture has more before its first scan; what hides its size behind more counts as the largest.
constexpr std::uint32_t segments_max = 4096;
constexpr picture_size largest{0xffff, 0xffff};

/// SOF0 to SOF15, without the three of these numbers that are tables.
bool is_frame(unsigned marker) {
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}
/// Of those that no length follows: padding, stuffed bytes, restarts, the file's beginning.
bool stands_alone(unsigned marker) {
  return marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8) || marker == 0xff;
}

/// Calls `met(marker, body)` for each segment, until it says false. Coded data is passed over.
template <class Met>
void walk_segments(std::span<const std::byte> file, Met met) {
  for (std::size_t at = 0;;) {
    const auto* const begin = file.data() + at;
    const auto* const found = static_cast<const std::byte*>(std::memchr(begin, 0xff, file.size() - at));
    if (found == nullptr || file.size() - static_cast<std::size_t>(found - file.data()) < 4)
      return;
    at = static_cast<std::size_t>(found - file.data());
    const auto marker = std::to_integer<unsigned>(file[at + 1]);
    if (marker == file_ends)
      return; // phones put more behind it
    if (stands_alone(marker)) {
      at += marker == 0xff ? 1 : 2;
      continue;
    }
    const std::size_t length =
        std::to_integer<std::size_t>(file[at + 2]) << 8 | std::to_integer<std::size_t>(file[at + 3]);
    const auto body = file.subspan(at + 2).first(std::min(length, file.size() - at - 2));
    if (!met(marker, body))
      return;
    at += 2 + body.size();
  }
}

/// Of its header, until `met` says false. False: there are too many.
template <class Met>
bool walk_header(std::span<const std::byte> file, Met met) {
  std::uint32_t segments = 0;
  walk_segments(file, [&](unsigned marker, std::span<const std::byte> body) {
    return marker != scan_begins && ++segments <= segments_max && met(marker, body);
  });
  return segments <= segments_max;
}

/// EXIF is the first of its kind; the library's own way keeps all of them, and there may be millions.
orientation orientation_in(std::span<const std::byte> file) {
  auto found = orientation::upright;
  walk_header(file, [&](unsigned marker, std::span<const std::byte> body) {
    const auto said = body.subspan(std::min<std::size_t>(body.size(), 2)); // behind its length
    if (marker != application_1 || said.size() < exif_mark_bytes ||
        std::memcmp(said.data(), exif_mark.data(), exif_mark.size()) != 0)
      return true;
    found = orientation_of(said.subspan(exif_mark_bytes));
    return false;
  });
  return found;
}

std::uint64_t count_scans(std::span<const std::byte> file) {
  std::uint64_t scans = 0;
  walk_segments(file, [&](unsigned marker, auto) {
    scans += marker == scan_begins ? 1 : 0;
    return true;
  });
  return scans;
}

/// Every scan costs its time over the whole picture, however few bytes it has.
protocols::result<void> validate_scans(const picture_file& file, std::uint64_t pixels) {
  using namespace protocols;
  const auto scans = count_scans(file.bytes);
  const auto most = std::min<std::uint64_t>(limits::picture_scans_max, limits::picture_pixel_scans_max / pixels);
  if (scans > most)
    return file.bad(fmt::format("{} scans of {} pixels; at most {} at that size", scans, pixels, most));
  return {};
}

} // namespace

bool is_jpeg(std::span<const std::byte> file) noexcept {
  return file.size() >= 3 && file[0] == std::byte{0xff} && file[1] == std::byte{0xd8} && file[2] == std::byte{0xff};
}

picture_size jpeg_size(std::span<const std::byte> file) noexcept {
  picture_size out;
  const bool whole = walk_header(file, [&](unsigned marker, std::span<const std::byte> body) {
    constexpr std::size_t frame_bytes = 7; // length, precision, height, width
    if (!is_frame(marker) || body.size() < frame_bytes)
      return true;
    const auto pair = [&](std::size_t at) {
      return std::to_integer<std::uint32_t>(body[at]) << 8 | std::to_integer<std::uint32_t>(body[at + 1]);
    };
    out = {.width = pair(5), .height = pair(3)};
    return false;
  });
  return whole ? out : largest;
}

protocols::result<rgb_picture> read_jpeg(const picture_file& file) {
  decoder self{file};
  if (!read_header(self, reinterpret_cast<const unsigned char*>(file.bytes.data()), file.bytes.size()))
    return file.ended(self.error.data());
  if (auto fits = file.validate(self.jpeg.image_width, self.jpeg.image_height); !fits)
    return tl::make_unexpected(fits.error());
  if (!is_readable(self.jpeg.jpeg_color_space))
    return file.bad("an unknown colour space; gray, RGB, YCbCr, CMYK and YCCK are read");
  rgb_picture out{.height = self.jpeg.image_height, .width = self.jpeg.image_width, .rgb = {}};
  if (auto fits = validate_scans(file, std::uint64_t{out.height} * out.width); !fits)
    return tl::make_unexpected(fits.error());

  const bool inked = is_inked(self.jpeg.jpeg_color_space);
  self.jpeg.out_color_space = inked ? JCS_CMYK : JCS_RGB;
  const std::size_t row_bytes = std::size_t{out.width} * (inked ? 4 : 3);
  out.rgb.resize(row_bytes * out.height);
  if (!read_rows(self, out.rgb.data(), row_bytes))
    return file.ended(self.error.data());
  if (inked && !ink_to_light(file, out))
    return file.ended(given_up_words);
  return turn(std::move(out), orientation_in(file.bytes), file.goes_on);
}

} // namespace troupe::gpu::models
