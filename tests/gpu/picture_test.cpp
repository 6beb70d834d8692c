#include "gpu/models/pictures/picture.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdio> // jpeglib.h needs it and does not include it
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>

namespace {

using namespace troupe;
using gpu::models::read_picture;
using gpu::models::rgb_picture;
using bytes = std::vector<std::byte>;

constexpr std::uint32_t side_max = 1024;

bytes read_file(const std::string& path) {
  std::ifstream in(std::string{TROUPE_SOURCE_DIR "/"} + path, std::ios::binary);
  REQUIRE(in);
  const std::string all{std::istreambuf_iterator<char>(in), {}};
  bytes out(all.size());
  std::transform(all.begin(), all.end(), out.begin(), [](char c) { return static_cast<std::byte>(c); });
  return out;
}

/// Pixels or palette indices in, a file out; the test's own encoder, by libpng.
struct png_form {
  int type;
  int depth;
  int interlace = PNG_INTERLACE_NONE;
  std::vector<png_byte> exif = {};
  const png_color_16* see_through = nullptr; ///< the colour that stands for "transparent"
};
bytes make_png(const png_form& form, png_uint_32 width, const std::vector<std::vector<png_byte>>& rows) {
  bytes out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &out,
      [](png_structp writer, png_bytep data, std::size_t count) {
        auto& file = *static_cast<bytes*>(png_get_io_ptr(writer));
        const auto* from = reinterpret_cast<const std::byte*>(data);
        file.insert(file.end(), from, from + count);
      },
      nullptr);
  png_set_IHDR(png, info, width, static_cast<png_uint_32>(rows.size()), form.depth, form.type, form.interlace,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (form.type == PNG_COLOR_TYPE_PALETTE) {
    const std::array<png_color, 2> palette{{{10, 20, 30}, {200, 100, 50}}};
    const std::array<png_byte, 2> alpha{0, 128};
    png_set_PLTE(png, info, palette.data(), static_cast<int>(palette.size()));
    png_set_tRNS(png, info, alpha.data(), static_cast<int>(alpha.size()), nullptr);
  }
  if (form.see_through)
    png_set_tRNS(png, info, nullptr, 0, form.see_through);
  if (!form.exif.empty())
    png_set_eXIf_1(png, info, static_cast<png_uint_32>(form.exif.size()), const_cast<png_bytep>(form.exif.data()));
  std::vector<png_bytep> pointers;
  for (const auto& row : rows)
    pointers.push_back(const_cast<png_bytep>(row.data()));
  png_set_rows(png, info, pointers.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&png, &info);
  return out;
}

struct jpeg_form {
  J_COLOR_SPACE space = JCS_RGB; ///< of the pixels that go in
  int components = 3;
  bool progressive = false;
  J_COLOR_SPACE stored = JCS_UNKNOWN; ///< unless it is libjpeg's choice
  std::vector<JOCTET> exif = {};      ///< with its mark
  JDIMENSION width = 40;
  JDIMENSION height = 40;
};
/// `sample` of a pixel's column and row.
bytes make_jpeg(
    const jpeg_form& form, int (*sample)(JDIMENSION, JDIMENSION) = [](JDIMENSION, JDIMENSION) { return 120; }) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* out = nullptr;
  unsigned long count = 0;
  jpeg_mem_dest(&jpeg, &out, &count);
  jpeg.image_width = form.width;
  jpeg.image_height = form.height;
  jpeg.input_components = form.components;
  jpeg.in_color_space = form.space;
  jpeg_set_defaults(&jpeg);
  if (form.stored != JCS_UNKNOWN)
    jpeg_set_colorspace(&jpeg, form.stored);
  jpeg_set_quality(&jpeg, 95, TRUE);
  if (form.progressive)
    jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  if (!form.exif.empty())
    jpeg_write_marker(&jpeg, JPEG_APP0 + 1, form.exif.data(), static_cast<unsigned>(form.exif.size()));
  const auto each = static_cast<std::size_t>(form.components);
  std::vector<JSAMPLE> row(form.width * each);
  for (JDIMENSION y = 0; y < form.height; ++y) {
    for (JDIMENSION x = 0; x < form.width; ++x)
      std::fill_n(row.begin() + static_cast<std::ptrdiff_t>(x * each), each, static_cast<JSAMPLE>(sample(x, y)));
    JSAMPROW pointer = row.data();
    jpeg_write_scanlines(&jpeg, &pointer, 1);
  }
  jpeg_finish_compress(&jpeg);
  const auto* from = reinterpret_cast<const std::byte*>(out);
  bytes file(from, from + count);
  jpeg_destroy_compress(&jpeg);
  std::free(out);
  return file;
}

/// A TIFF header and one entry, in either order of bytes.
std::vector<png_byte> exif_of(unsigned orientation, bool little) {
  std::vector<png_byte> out;
  const auto put = [&](unsigned value, int count) {
    for (int i = 0; i < count; ++i)
      out.push_back(static_cast<png_byte>(value >> 8 * (little ? i : count - 1 - i)));
  };
  put(little ? 0x4949 : 0x4d4d, 2);
  put(42, 2);
  put(8, 4); // where the directory begins
  put(2, 2); // entries
  put(0x0100, 2), put(3, 2), put(1, 4), put(9, 2), put(0, 2);
  put(0x0112, 2), put(3, 2), put(1, 4), put(orientation, 2), put(0, 2);
  put(0, 4);
  return out;
}

std::vector<int> pixels_of(const rgb_picture& picture) {
  std::vector<int> out;
  for (std::byte b : picture.rgb)
    out.push_back(std::to_integer<int>(b));
  return out;
}

std::string what_of(const bytes& file, std::uint32_t limit = side_max) {
  const auto read = read_picture(file, "page", limit);
  REQUIRE_FALSE(read);
  CHECK(read.error().code == protocols::fault::bad_picture);
  return read.error().what;
}

using rows = std::vector<std::vector<png_byte>>;

/// The pixels of a PNG that must be read.
std::vector<int> read_png(const png_form& form, png_uint_32 width, const rows& from) {
  const auto picture = read_picture(make_png(form, width, from), "page.png", side_max);
  REQUIRE(picture);
  CHECK(picture->width == width);
  CHECK(picture->height == from.size());
  return pixels_of(*picture);
}

TEST_CASE("every form of PNG becomes RGB as PIL's convert does") {
  CHECK(read_png({PNG_COLOR_TYPE_RGB, 8}, 2, {{1, 2, 3, 4, 5, 6}}) == std::vector{1, 2, 3, 4, 5, 6});
  CHECK(read_png({PNG_COLOR_TYPE_GRAY, 8}, 2, {{7, 200}}) == std::vector{7, 7, 7, 200, 200, 200});
  CHECK(read_png({PNG_COLOR_TYPE_GRAY, 1}, 2, {{0b0100'0000}}) == std::vector{0, 0, 0, 255, 255, 255});
  CHECK(read_png({PNG_COLOR_TYPE_GRAY, 4}, 2, {{0x3f}}) == std::vector{51, 51, 51, 255, 255, 255});
  CHECK(read_png({PNG_COLOR_TYPE_RGB, 16}, 1, {{1, 255, 2, 255, 3, 255}}) == std::vector{1, 2, 3});
  CHECK(read_png({PNG_COLOR_TYPE_GRAY, 16}, 1, {{9, 255}}) == std::vector{9, 9, 9});
  CHECK(read_png({PNG_COLOR_TYPE_GRAY, 8, PNG_INTERLACE_ADAM7}, 3, {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}) ==
        std::vector{1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9});
}

TEST_CASE("K10: what is transparent lies on white, as PIL's paste rounds it") {
  // Numbers of PIL 9.4: a white picture, on which the RGBA form was pasted through its own alpha.
  CHECK(read_png({PNG_COLOR_TYPE_RGB_ALPHA, 8}, 3, {{1, 2, 3, 0, 4, 5, 6, 99, 200, 100, 50, 255}}) ==
        std::vector{255, 255, 255, 158, 158, 158, 200, 100, 50});
  CHECK(read_png({PNG_COLOR_TYPE_RGB_ALPHA, 8, PNG_INTERLACE_ADAM7}, 2,
                 {{1, 2, 3, 0, 4, 5, 6, 99}, {9, 8, 7, 255, 1, 1, 1, 0}}) ==
        std::vector{255, 255, 255, 158, 158, 158, 9, 8, 7, 255, 255, 255});
  CHECK(read_png({PNG_COLOR_TYPE_GRAY_ALPHA, 8}, 3, {{7, 0, 7, 128, 200, 254}}) ==
        std::vector{255, 255, 255, 131, 131, 131, 200, 200, 200});
  CHECK(read_png({PNG_COLOR_TYPE_RGB_ALPHA, 16}, 1, {{4, 255, 5, 0, 6, 1, 99, 200}}) == std::vector{158, 158, 158});
  CHECK(read_png({PNG_COLOR_TYPE_PALETTE, 1}, 2, {{0b0100'0000}}) == std::vector{255, 255, 255, 227, 177, 152});

  const png_color_16 colour{.index = 0, .red = 4, .green = 5, .blue = 6, .gray = 0};
  const png_color_16 gray{.index = 0, .red = 0, .green = 0, .blue = 0, .gray = 9};
  png_form form{PNG_COLOR_TYPE_RGB, 8};
  form.see_through = &colour;
  CHECK(read_png(form, 2, {{1, 2, 3, 4, 5, 6}}) == std::vector{1, 2, 3, 255, 255, 255});
  form = {PNG_COLOR_TYPE_GRAY, 8};
  form.see_through = &gray;
  CHECK(read_png(form, 2, {{7, 9}}) == std::vector{7, 7, 7, 255, 255, 255});
  // 16 bits are compared whole: the second pixel differs in its lower ones
  form = {PNG_COLOR_TYPE_GRAY, 16};
  form.see_through = &gray;
  CHECK(read_png(form, 2, {{0, 9, 0, 8}}) == std::vector{255, 255, 255, 0, 0, 0});
}

TEST_CASE("K10: a picture is read upright, whichever way EXIF says that it was stored") {
  // PIL 9.4, ImageOps.exif_transpose of [[1, 2, 3], [4, 5, 6]]
  const std::array<std::vector<int>, 8> upright{{{1, 2, 3, 4, 5, 6},
                                                 {3, 2, 1, 6, 5, 4},
                                                 {6, 5, 4, 3, 2, 1},
                                                 {4, 5, 6, 1, 2, 3},
                                                 {1, 4, 2, 5, 3, 6},
                                                 {4, 1, 5, 2, 6, 3},
                                                 {6, 3, 5, 2, 4, 1},
                                                 {3, 6, 2, 5, 1, 4}}};
  const auto reds_of = [](const rgb_picture& picture) {
    std::vector<int> reds;
    for (std::size_t i = 0; i < picture.rgb.size(); i += 3)
      reds.push_back(std::to_integer<int>(picture.rgb[i]));
    return reds;
  };
  for (unsigned how = 1; how <= upright.size(); ++how)
    for (const bool little : {false, true}) {
      CAPTURE(how);
      CAPTURE(little);
      png_form form{PNG_COLOR_TYPE_GRAY, 8};
      form.exif = exif_of(how, little);
      const auto png = read_picture(make_png(form, 3, {{1, 2, 3}, {4, 5, 6}}), "page.png", side_max);
      REQUIRE(png);
      CHECK(png->width == (how < 5 ? 3 : 2));
      CHECK(reds_of(*png) == upright[how - 1]);

      // six blocks of 8 x 8 pixels, the same picture 8 times as large
      jpeg_form large{.space = JCS_GRAYSCALE, .components = 1, .width = 24, .height = 16};
      large.exif.assign({'E', 'x', 'i', 'f', 0, 0});
      large.exif.insert(large.exif.end(), form.exif.begin(), form.exif.end());
      const auto jpeg = read_picture(
          make_jpeg(large, [](JDIMENSION x, JDIMENSION y) { return static_cast<int>(40 * (1 + x / 8 + 3 * (y / 8))); }),
          "page.jpg", side_max);
      REQUIRE(jpeg);
      REQUIRE(jpeg->width == 8 * png->width);
      for (std::size_t i = 0; i < upright[how - 1].size(); ++i) {
        const auto column = 8 * (i % png->width) + 4;
        const auto row = 8 * (i / png->width) + 4;
        const auto red = std::to_integer<int>(jpeg->rgb[(row * jpeg->width + column) * 3]);
        CHECK(std::abs(red - 40 * upright[how - 1][i]) <= 2);
      }
    }
}

TEST_CASE("K10: EXIF that says nothing that can be believed turns nothing") {
  const auto stored = std::vector{1, 1, 1, 2, 2, 2};
  auto cut = exif_of(6, true);
  for (const auto& exif : {exif_of(0, true), exif_of(9, false), std::vector<png_byte>(20, 0xff),
                           std::vector<png_byte>{'I', 'I', 42, 0, 8, 0, 0, 0, 0xff, 0xff}}) {
    png_form form{PNG_COLOR_TYPE_GRAY, 8};
    form.exif = exif;
    CHECK(read_png(form, 2, {{1, 2}}) == stored);
  }
  for (std::size_t bytes_left = 4; bytes_left < 32; ++bytes_left) { // before the value stands there whole
    png_form form{PNG_COLOR_TYPE_GRAY, 8};
    form.exif.assign(cut.begin(), cut.begin() + static_cast<std::ptrdiff_t>(bytes_left));
    CHECK(read_png(form, 2, {{1, 2}}) == stored);
  }
}

TEST_CASE("JPEG is read in gray, colour and progressive form") {
  for (const jpeg_form& form : {jpeg_form{}, jpeg_form{.space = JCS_GRAYSCALE, .components = 1},
                                jpeg_form{.progressive = true}, jpeg_form{.stored = JCS_RGB}}) {
    const auto picture = read_picture(make_jpeg(form), "page.jpg", side_max);
    REQUIRE(picture);
    CHECK(picture->width == 40);
    CHECK(picture->height == 40);
    for (int value : pixels_of(*picture))
      CHECK(std::abs(value - 120) <= 1);
  }
}

TEST_CASE("K10: CMYK and YCCK are read as PIL does: inverted, and black over the inks") {
  for (const auto stored : {JCS_CMYK, JCS_YCCK})
    for (const bool progressive : {false, true}) {
      const auto file = make_jpeg({.space = JCS_CMYK, .components = 4, .progressive = progressive, .stored = stored});
      const auto picture = read_picture(file, "page.jpg", side_max);
      REQUIRE(picture);
      CHECK(picture->rgb.size() == 40u * 40 * 3);
      for (int value : pixels_of(*picture))
        CHECK(std::abs(value - 56) <= 2); // 120 - 135 * 120 / 255
    }
}

// ---- what one picture may ask for ---------------------------------------------------------------------------------

/// A progressive JPEG whose last scan stands there `scans` times more.
bytes with_scans(bytes file, std::size_t scans) {
  const auto is_scan = [&](std::size_t at) { return file[at] == std::byte{0xff} && file[at + 1] == std::byte{0xda}; };
  std::size_t last = file.size() - 2;
  while (!is_scan(last))
    --last;
  const bytes scan(file.begin() + static_cast<std::ptrdiff_t>(last), file.end() - 2);
  for (std::size_t i = 0; i < scans; ++i)
    file.insert(file.end() - 2, scan.begin(), scan.end());
  return file;
}
/// The same with other sides in its header.
bytes with_sides(bytes file, unsigned height, unsigned width) {
  for (std::size_t at = 0; at + 9 < file.size(); ++at)
    if (file[at] == std::byte{0xff} && (file[at + 1] == std::byte{0xc0} || file[at + 1] == std::byte{0xc2})) {
      const std::array<unsigned, 4> sides{height >> 8, height & 0xff, width >> 8, width & 0xff};
      std::transform(sides.begin(), sides.end(), file.begin() + static_cast<std::ptrdiff_t>(at) + 5,
                     [](unsigned b) { return std::byte(b); });
      return file;
    }
  return file;
}

/// A file from libwebp's own encoder, of RGBA pixels; lossless where `quality` is below 0.
bytes make_webp(int width, int height, const std::vector<std::uint8_t>& rgba, float quality) {
  std::uint8_t* made = nullptr;
  const std::size_t size = quality < 0 ? WebPEncodeLosslessRGBA(rgba.data(), width, height, width * 4, &made)
                                       : WebPEncodeRGBA(rgba.data(), width, height, width * 4, quality, &made);
  REQUIRE(size > 0);
  bytes out(size);
  std::transform(made, made + size, out.begin(), [](std::uint8_t b) { return std::byte{b}; });
  WebPFree(made);
  return out;
}
std::vector<std::uint8_t> shaded(int width, int height) {
  std::vector<std::uint8_t> out;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (const int each : {x * 4, y * 5, 100, 255})
        out.push_back(static_cast<std::uint8_t>(std::min(each, 255)));
  return out;
}
void append_little(bytes& to, std::size_t value) {
  for (int i = 0; i < 4; ++i)
    to.push_back(static_cast<std::byte>(value >> (8 * i)));
}
void append_text(bytes& to, std::string_view text) {
  std::transform(text.begin(), text.end(), std::back_inserter(to), [](char c) { return static_cast<std::byte>(c); });
}
/// The extended form, with the flags given, of a simple file, and EXIF behind it.
bytes extended_webp(const bytes& simple, unsigned flags, std::byte width_less_1, std::byte height_less_1,
                    const std::vector<png_byte>& exif) {
  bytes body;
  append_text(body, "WEBPVP8X");
  append_little(body, 10);
  append_little(body, flags);
  for (const std::byte side : {width_less_1, height_less_1})
    body.insert(body.end(), {side, std::byte{0}, std::byte{0}});
  body.insert(body.end(), simple.begin() + 12, simple.end());
  append_text(body, "EXIF");
  append_little(body, exif.size());
  std::transform(exif.begin(), exif.end(), std::back_inserter(body), [](png_byte b) { return std::byte{b}; });
  if (exif.size() % 2 == 1)
    body.push_back(std::byte{0});
  bytes out;
  append_text(out, "RIFF");
  append_little(out, body.size());
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

TEST_CASE("K10: WebP is read as PIL reads it: lossless to the bit, lossy, on white where it is transparent, upright") {
  const std::vector<std::uint8_t> four{1, 2, 3, 255, 4, 5, 6, 99, 9, 8, 7, 0, 200, 100, 50, 255};
  const auto lossless = read_picture(make_webp(2, 2, four, -1), "page", side_max);
  REQUIRE(lossless);
  CHECK(pixels_of(*lossless) == std::vector{1, 2, 3, 158, 158, 158, 255, 255, 255, 200, 100, 50});

  const auto source = shaded(60, 50);
  const auto lossy = read_picture(make_webp(60, 50, source, 95), "page", side_max);
  REQUIRE(lossy);
  CHECK(lossy->width == 60);
  CHECK(lossy->height == 50);
  const auto pixels = pixels_of(*lossy);
  long apart = 0;
  for (std::size_t i = 0; i < pixels.size(); ++i)
    apart += std::abs(pixels[i] - source[i / 3 * 4 + i % 3]);
  CHECK(apart < 4 * static_cast<long>(pixels.size()));

  constexpr unsigned exif_flag = 0x08;
  const std::vector<std::uint8_t> two{1, 1, 1, 255, 2, 2, 2, 255};
  const auto turned =
      read_picture(extended_webp(make_webp(2, 1, two, -1), exif_flag, std::byte{1}, std::byte{0}, exif_of(6, true)),
                   "page", side_max);
  REQUIRE(turned);
  CHECK(turned->height == 2);
  CHECK(pixels_of(*turned) == std::vector{1, 1, 1, 2, 2, 2});
}

TEST_CASE("K7, K8: a WebP that is huge, animated, damaged or cut is refused by name before or while it is decoded") {
  const auto whole = make_webp(60, 50, shaded(60, 50), -1);
  CHECK(gpu::models::pixels_promised(whole) == 60 * 50);
  CHECK(what_of(whole, 59) == "page: 60 x 50 pixels; at most 59 a side");
  auto huge = whole;
  constexpr std::size_t size_at = 21; // behind the container's heads and the signature, 14 bits for each side
  constexpr std::uint32_t sides = (8193 - 1) | (8192 - 1) << 14;
  for (std::size_t i = 0; i < 4; ++i)
    huge[size_at + i] = static_cast<std::byte>(sides >> (8 * i));
  CHECK(what_of(huge, 65'535) == "page: 8193 x 8192 pixels, which are 67117056; at most 67108864");
  constexpr unsigned animated = 0x02;
  CHECK(what_of(extended_webp(whole, animated, std::byte{59}, std::byte{49}, {})) ==
        "page: an animated WebP; a still one is read");
  for (std::size_t length = 0; length < whole.size(); length += 1 + length / 40) {
    CAPTURE(length);
    CHECK_FALSE(read_picture(std::span{whole}.first(length), "page", side_max));
  }
  int steps = 0;
  const auto lossy = make_webp(60, 50, shaded(60, 50), 100);
  REQUIRE(read_picture(lossy, "page", side_max, [&] { return ++steps > 0; }));
  CHECK(steps >= 5);
  for (int last = 1; last <= steps; ++last) {
    int left = last;
    const auto given_up = read_picture(lossy, "page", side_max, [&] { return --left > 0; });
    REQUIRE_FALSE(given_up);
    CHECK(given_up.error().code == protocols::fault::cancelled);
  }
}

TEST_CASE("K7, K8: a JPEG of more scans than any picture needs is refused by name before it is decoded") {
  const auto file = make_jpeg({.progressive = true}); // 10 scans
  const auto asked = [](int& steps) {
    return [&steps] {
      ++steps;
      return true;
    };
  };
  int steps = 0;
  const auto many = read_picture(with_scans(file, 91), "page", side_max, asked(steps));
  REQUIRE_FALSE(many);
  CHECK(many.error() ==
        protocols::failure{protocols::fault::bad_picture, "page: 101 scans of 1600 pixels; at most 100 at that size"});
  CHECK(steps == 0);
  // the larger the picture, the fewer
  CHECK(what_of(with_sides(with_scans(file, 10), 8192, 8192), 8192) ==
        "page: 20 scans of 67108864 pixels; at most 16 at that size");
  // what stands behind the end is no scan of this picture, as of phones that put a film there
  auto longer = with_scans(file, 91);
  longer.insert(longer.begin(), file.begin(), file.end());
  CHECK(read_picture(longer, "page", side_max));
}

TEST_CASE("K7, K8: a picture of too many pixels is refused by its header, though each of its sides is allowed") {
  bytes file = read_file("tests/golden/golden-00.png");
  const std::array<unsigned, 8> sides{0, 0, 0x20, 0x01, 0, 0, 0x20, 0};
  std::transform(sides.begin(), sides.end(), file.begin() + 16, [](unsigned b) { return std::byte(b); });
  CHECK(what_of(file, 65'535) == "page: 8193 x 8192 pixels, which are 67117056; at most 67108864");
  CHECK(what_of(with_sides(make_jpeg({}), 8192, 8193), 65'535) ==
        "page: 8193 x 8192 pixels, which are 67117056; at most 67108864");
}

TEST_CASE("K7: what a picture costs is known from its header") {
  using gpu::models::pixels_promised;
  CHECK(pixels_promised(read_file("tests/golden/golden-00.png")) == 256 * 64);
  CHECK(pixels_promised(make_jpeg({.progressive = true})) == 1600);
  CHECK(pixels_promised(with_sides(make_jpeg({}), 8192, 8000)) == 8192u * 8000);
  // one that hides its size behind thousands of others counts as the largest
  auto hidden = make_jpeg({});
  const std::array empty{std::byte{0xff}, std::byte{0xe2}, std::byte{0}, std::byte{2}};
  for (int i = 0; i < 5000; ++i)
    hidden.insert(hidden.begin() + 2, empty.begin(), empty.end());
  CHECK(pixels_promised(hidden) == 65535ull * 65535);
  const auto jpeg = make_jpeg({});
  for (const std::size_t length : {0u, 1u, 3u, 4u, 5u, 20u})
    CHECK(pixels_promised(std::span{jpeg}.first(length)) == 0);
}

TEST_CASE("K7: reading takes a step at each row and each scan, and gives up at any of them") {
  jpeg_form turned{.progressive = true};
  turned.exif.assign({'E', 'x', 'i', 'f', 0, 0});
  const auto exif = exif_of(6, true);
  turned.exif.insert(turned.exif.end(), exif.begin(), exif.end());
  const rows clear(50, std::vector<png_byte>(4 * 8, 100));
  png_form half_turned{PNG_COLOR_TYPE_GRAY, 8};
  half_turned.exif = exif_of(3, true);
  struct sample {
    bytes file;
    int steps_least;
  };
  const std::vector<sample> samples{
      {make_png({PNG_COLOR_TYPE_RGB_ALPHA, 8}, 8, clear), 50 + 50},                     // rows, and over white
      {make_png({PNG_COLOR_TYPE_RGB_ALPHA, 8, PNG_INTERLACE_ADAM7}, 8, clear), 7 * 50}, // passes
      {make_png(half_turned, 8, rows(50, std::vector<png_byte>(8, 100))), 50 + 50},     // rows, and turning
      {make_jpeg({}), 40},
      {make_jpeg({.space = JCS_CMYK, .components = 4}), 40 + 40},
      {make_jpeg(turned), 10 * 3 + 40}, // scans over rows of blocks, and turning
  };
  for (const auto& [file, steps_least] : samples) {
    CAPTURE(steps_least);
    int steps = 0;
    REQUIRE(read_picture(file, "page", side_max, [&] { return ++steps > 0; }));
    CHECK(steps >= steps_least);
    for (int last = 1; last <= steps; ++last) {
      int left = last;
      const auto given_up = read_picture(file, "page", side_max, [&] { return --left > 0; });
      REQUIRE_FALSE(given_up);
      CHECK(given_up.error().code == protocols::fault::cancelled);
    }
  }
  int steps = 0;
  const rgb_picture page{.height = 50, .width = 40, .rgb = bytes(50 * 40 * 3)};
  CHECK(gpu::models::resize(page, 20, 30, [&] { return ++steps > 0; }));
  CHECK(steps == 50 + 20);
  CHECK(gpu::models::resize(page, 20, 30, [&] { return --steps > 0; }).error().code == protocols::fault::cancelled);
}

TEST_CASE("what is no picture is refused in words that name it") {
  CHECK(what_of({}) == "page: 0 bytes");
  CHECK(what_of(bytes(100, std::byte{'x'})) == "page: neither PNG nor JPEG nor WebP");
  const bytes golden = read_file("tests/golden/golden-00.png");
  CHECK(what_of(bytes(golden.begin(), golden.begin() + 8)) == "page: truncated");
  CHECK(what_of(golden, 255) == "page: 256 x 64 pixels; at most 255 a side");
}

TEST_CASE("a header that promises a huge picture is judged before anything of its size is allocated") {
  // given a PNG whose header says 20000 x 2000000000
  bytes file = read_file("tests/golden/golden-00.png");
  const std::array<unsigned, 8> sides{0, 0, 0x4e, 0x20, 0x77, 0x35, 0x94, 0x00};
  std::transform(sides.begin(), sides.end(), file.begin() + 16, [](unsigned b) { return std::byte(b); });
  // then only its numbers are looked at
  CHECK(what_of(file, 8192) == "page: 20000 x 2000000000 pixels; at most 8192 a side");
}

TEST_CASE("a file cut anywhere is an error, never a picture with invented rows") {
  for (const char* path : {"tests/golden/golden-00.png", "deploy/pages/poster.jpg"}) {
    const bytes whole = read_file(path);
    REQUIRE(read_picture(whole, path, side_max));
    for (std::size_t length = 0; length + 1 < whole.size(); length += 1 + length / 40) {
      CAPTURE(path);
      CAPTURE(length);
      CHECK_FALSE(read_picture(std::span{whole}.first(length), path, side_max));
    }
  }
}

TEST_CASE("hostile bytes never crash the reader, and what it reads keeps to its bounds") {
  constexpr std::uint32_t limit = 512;
  constexpr int mutations = 1500;
  const std::vector<bytes> seeds{read_file("tests/golden/golden-00.png"),
                                 read_file("deploy/pages/poster.jpg"),
                                 make_png({PNG_COLOR_TYPE_PALETTE, 1, PNG_INTERLACE_ADAM7}, 8, {{0x55}, {0xaa}}),
                                 make_jpeg({.progressive = true}),
                                 make_webp(60, 50, shaded(60, 50), -1),
                                 make_webp(60, 50, shaded(60, 50), 80)};
  for (unsigned seed = 1; seed <= seeds.size(); ++seed)
    for (int round = 0; round < mutations; ++round) {
      std::mt19937 random(seed * 100000u + static_cast<unsigned>(round));
      bytes file = seeds[seed - 1];
      const auto pick = [&](std::size_t below) {
        return std::uniform_int_distribution<std::size_t>(0, below - 1)(random);
      };
      for (std::size_t i = 0, count = 1 + pick(8); i < count; ++i) {
        const std::size_t within = round % 2 == 0 ? file.size() : std::min<std::size_t>(file.size(), 200);
        file[pick(within)] = static_cast<std::byte>(pick(256));
      }
      if (round % 5 == 0)
        file.resize(1 + pick(file.size()));
      CAPTURE(seed);
      CAPTURE(round);
      const auto read = read_picture(file, "mutated", limit);
      if (read) {
        CHECK(read->width <= limit);
        CHECK(read->height <= limit);
        CHECK(read->rgb.size() == std::size_t{3} * read->width * read->height);
      } else {
        CHECK(read.error().code == protocols::fault::bad_picture);
      }
    }
}

} // namespace
