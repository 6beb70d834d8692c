#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <string>

#include <nlohmann/json.hpp>

#include "gpu/models/pictures/picture.hpp"

namespace {

using namespace troupe;
using gpu::models::rgb_picture;

const std::string root = TROUPE_SOURCE_DIR "/";

/// Rows of one kind; never none, so that a test cannot pass over an empty list.
nlohmann::json golden(const char* kind) {
  std::ifstream in(root + "tests/golden/pictures.json");
  nlohmann::json rows = nlohmann::json::parse(in)[kind];
  REQUIRE_FALSE(rows.empty());
  return rows;
}

std::vector<std::byte> from_base64(const std::string& text) {
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<std::byte> out;
  std::uint32_t bits = 0;
  int count = 0;
  for (char c : text) {
    if (c == '=')
      break;
    bits = bits << 6 | static_cast<std::uint32_t>(alphabet.find(c));
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<std::byte>(bits >> count & 0xff));
    }
  }
  return out;
}

/// The picture that the references were made from.
rgb_picture noise(std::uint32_t height, std::uint32_t width) {
  rgb_picture out{height, width, {}};
  std::uint32_t state = 12345;
  for (std::uint64_t i = 0; i < std::uint64_t{3} * height * width; ++i) {
    state = (state * 1103515245u + 12345u) & 0x7fffffff;
    out.rgb.push_back(static_cast<std::byte>(state >> 16 & 255));
  }
  return out;
}

gpu::models::model_facts facts_for(std::uint32_t factor, std::uint64_t pixels_min, std::uint64_t pixels_max) {
  gpu::models::model_facts facts;
  facts.merge = 2;
  facts.patch_pixels = factor / facts.merge;
  facts.picture_pixels_min = pixels_min;
  facts.picture_pixels_max = pixels_max;
  return facts;
}

rgb_picture read_page(const std::string& path) {
  std::ifstream in(root + path, std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(in), {}};
  auto picture = gpu::models::read_picture(std::as_bytes(std::span{all}), path, 8192);
  REQUIRE(picture);
  return *picture;
}

TEST_CASE("bicubic with antialias gives torch's bytes, larger and smaller, along each axis") {
  for (const auto& one : golden("resize")) {
    const auto from = one["from"].get<std::array<std::uint32_t, 2>>();
    const auto to = one["to"].get<std::array<std::uint32_t, 2>>();
    CAPTURE(from[0]);
    CAPTURE(from[1]);
    const rgb_picture out = gpu::models::resize(noise(from[0], from[1]), to[0], to[1]).value();
    CHECK(out.height == to[0]);
    CHECK(out.width == to[1]);
    CHECK(out.rgb == from_base64(one["rgb"].get<std::string>()));
  }
}

TEST_CASE("a picture of the shape already asked for is unchanged") {
  const rgb_picture page = noise(64, 96);
  CHECK(gpu::models::resize(page, 64, 96).value().rgb == page.rgb);
}

TEST_CASE("the resized shape is the published one, within the pixels that buffers are sized by") {
  for (const auto& one : golden("smart_resize")) {
    const auto from = one["from"].get<std::array<std::uint32_t, 2>>();
    const auto pixels = one["pixels"].get<std::array<std::uint64_t, 2>>();
    const auto facts = facts_for(one["factor"].get<std::uint32_t>(), pixels[0], pixels[1]);
    const auto got = gpu::models::resized_shape(facts, from[0], from[1]);
    CAPTURE(one.dump());
    if (one["to"].is_null()) {
      CHECK_FALSE(got);
      continue;
    }
    const auto to = one["to"].get<std::array<std::uint64_t, 2>>();
    REQUIRE(got.has_value() == (to[0] * to[1] <= pixels[1]));
    if (got) {
      CHECK(got->first == to[0]);
      CHECK(got->second == to[1]);
    }
  }
}

TEST_CASE("halves round to the even multiple, as Python's round") {
  const auto facts = facts_for(32, 1, 1'000'000);
  CHECK(gpu::models::resized_shape(facts, 80, 112).value() == std::pair{64u, 128u}); // 2.5 and 3.5
}

TEST_CASE("a strip of more than 200 to 1 is refused, and so is one that no buffer holds") {
  const auto facts = facts_for(32, 12288, 73728);
  CHECK(gpu::models::resized_shape(facts, 1, 201).error().what.find("200 times") != std::string::npos);
  CHECK(gpu::models::resized_shape(facts, 100, 20000).error().what.find("12288 to 73728") != std::string::npos);
  CHECK(gpu::models::resized_shape(facts, 0, 5).error().code == protocols::fault::bad_picture);
}

TEST_CASE("patches stand in merge order: block, patch within it, channel, frame, row, column") {
  // given 4 x 8 pixels whose red is their index, patches of side 2, merged 2 x 2, two frames
  gpu::models::normalisation how;
  how.rescale = 1.0;
  how.mean = {0, 0, 0};
  how.deviation = {1, 1, 1};
  how.patch = 2;
  rgb_picture page{4, 8, std::vector<std::byte>(4 * 8 * 3)};
  for (std::size_t i = 0; i < 32; ++i)
    page.rgb[i * 3] = static_cast<std::byte>(i);
  std::vector<float> patches(page.rgb.size() * how.temporal);
  // when
  gpu::models::patchify(page.rgb, page.height, page.width, how, patches);
  // then the first pixel of each patch is where merge order has it, and both frames are the same
  const std::vector<float> first_pixels{0, 2, 16, 18, 4, 6, 20, 22};
  const std::size_t patch_elements = 3 * 2 * 4;
  for (std::size_t i = 0; i < first_pixels.size(); ++i) {
    const float* patch = patches.data() + i * patch_elements;
    const float first = first_pixels[i];
    CHECK(std::vector<float>(patch, patch + 8) ==
          std::vector<float>{first, first + 1, first + 8, first + 9, first, first + 1, first + 8, first + 9});
    CHECK(std::vector<float>(patch + 8, patch + patch_elements) == std::vector<float>(16, 0.0f));
  }
}

TEST_CASE("a page goes through read, resize and patchify as through the published processor") {
  const auto facts = facts_for(32, 12288, 73728);
  const auto how = gpu::models::read_normalisation(root + "deploy/models/reader");
  REQUIRE(how);
  for (const auto& one : golden("pages")) {
    if (!one.contains("pixels_sum"))
      continue;
    const auto name = one["image"].get<std::string>();
    CAPTURE(name);
    rgb_picture page = read_page("deploy/pages/" + name);
    const auto shape = gpu::models::resized_shape(facts, page.height, page.width);
    REQUIRE(shape);
    CHECK(shape->first == one["grid"][1].get<std::uint32_t>() * how->patch);
    CHECK(shape->second == one["grid"][2].get<std::uint32_t>() * how->patch);
    page = gpu::models::resize(std::move(page), shape->first, shape->second).value();
    std::vector<float> patches(page.rgb.size() * how->temporal);
    gpu::models::patchify(page.rgb, page.height, page.width, *how, patches);
    double sum = 0.0;
    for (float value : patches)
      sum += static_cast<double>(value);
    // A byte off by one anywhere would be 0.0157 off here (two frames); the sums differ by float rounding alone.
    CHECK(std::abs(sum - one["pixels_sum"].get<double>()) < 0.01);
  }
}

} // namespace
