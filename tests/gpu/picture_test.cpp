#include "gpu/models/picture.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdio> // jpeglib.h needs it and does not include it
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include <jpeglib.h>
#include <png.h>

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
  std::vector<png_bytep> pointers;
  for (const auto& row : rows)
    pointers.push_back(const_cast<png_bytep>(row.data()));
  png_set_rows(png, info, pointers.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&png, &info);
  return out;
}

bytes make_jpeg(J_COLOR_SPACE space, int components, bool progressive) {
  constexpr JDIMENSION side = 40;
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* out = nullptr;
  unsigned long count = 0;
  jpeg_mem_dest(&jpeg, &out, &count);
  jpeg.image_width = side;
  jpeg.image_height = side;
  jpeg.input_components = components;
  jpeg.in_color_space = space;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 95, TRUE);
  if (progressive)
    jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  std::vector<JSAMPLE> row(side * static_cast<std::size_t>(components), 120);
  for (JDIMENSION y = 0; y < side; ++y) {
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

TEST_CASE("every form of PNG becomes RGB as PIL's convert does: alpha is dropped, not composited") {
  using rows = std::vector<std::vector<png_byte>>;
  const auto read = [](const png_form& form, png_uint_32 width, const rows& from) {
    const auto picture = read_picture(make_png(form, width, from), "page.png", side_max);
    REQUIRE(picture);
    CHECK(picture->width == width);
    CHECK(picture->height == from.size());
    return pixels_of(*picture);
  };
  CHECK(read({PNG_COLOR_TYPE_RGB, 8}, 2, {{1, 2, 3, 4, 5, 6}}) == std::vector{1, 2, 3, 4, 5, 6});
  CHECK(read({PNG_COLOR_TYPE_RGB_ALPHA, 8}, 2, {{1, 2, 3, 0, 4, 5, 6, 99}}) == std::vector{1, 2, 3, 4, 5, 6});
  CHECK(read({PNG_COLOR_TYPE_GRAY, 8}, 2, {{7, 200}}) == std::vector{7, 7, 7, 200, 200, 200});
  CHECK(read({PNG_COLOR_TYPE_GRAY_ALPHA, 8}, 1, {{7, 0}}) == std::vector{7, 7, 7});
  CHECK(read({PNG_COLOR_TYPE_GRAY, 1}, 2, {{0b0100'0000}}) == std::vector{0, 0, 0, 255, 255, 255});
  CHECK(read({PNG_COLOR_TYPE_GRAY, 4}, 2, {{0x3f}}) == std::vector{51, 51, 51, 255, 255, 255});
  CHECK(read({PNG_COLOR_TYPE_PALETTE, 1}, 2, {{0b0100'0000}}) == std::vector{10, 20, 30, 200, 100, 50});
  CHECK(read({PNG_COLOR_TYPE_RGB, 16}, 1, {{1, 255, 2, 255, 3, 255}}) == std::vector{1, 2, 3});
  CHECK(read({PNG_COLOR_TYPE_GRAY, 16}, 1, {{9, 255}}) == std::vector{9, 9, 9});
  CHECK(read({PNG_COLOR_TYPE_GRAY, 8, PNG_INTERLACE_ADAM7}, 3, {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}) ==
        std::vector{1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9});
}

TEST_CASE("JPEG is read in gray, colour and progressive form, CMYK is refused by name") {
  for (const auto& file :
       {make_jpeg(JCS_RGB, 3, false), make_jpeg(JCS_GRAYSCALE, 1, false), make_jpeg(JCS_RGB, 3, true)}) {
    const auto picture = read_picture(file, "page.jpg", side_max);
    REQUIRE(picture);
    CHECK(picture->width == 40);
    CHECK(picture->height == 40);
    for (int value : pixels_of(*picture))
      CHECK(std::abs(value - 120) <= 1);
  }
  CHECK(what_of(make_jpeg(JCS_CMYK, 4, false)).find("CMYK") != std::string::npos);
}

TEST_CASE("what is no picture is refused in words that name it") {
  CHECK(what_of({}) == "page: 0 bytes");
  CHECK(what_of(bytes(100, std::byte{'x'})) == "page: neither PNG nor JPEG");
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
  const std::vector<bytes> seeds{read_file("tests/golden/golden-00.png"), read_file("deploy/pages/poster.jpg"),
                                 make_png({PNG_COLOR_TYPE_PALETTE, 1, PNG_INTERLACE_ADAM7}, 8, {{0x55}, {0xaa}}),
                                 make_jpeg(JCS_RGB, 3, true)};
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
