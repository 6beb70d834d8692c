#include "runtime/base/digest.hpp"

#include <doctest/doctest.h>

#include <array>
#include <string_view>

#include "runtime/base/random.hpp"

using namespace troupe::base;

namespace {
std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text});
}
} // namespace

TEST_CASE("the digest is XXH3-64 as published") {
  // reference: XXH3_64bits of no bytes with seed 0, xxHash specification
  CHECK(hex(digest({})) == "2d06800538d394c2");
}

TEST_CASE("a digest over pieces is that of the whole") {
  running_digest pieces;
  pieces.add(bytes_of("one "));
  pieces.add(bytes_of(""));
  pieces.add(bytes_of("text"));
  CHECK(pieces.value() == digest(bytes_of("one text")));
}

TEST_CASE("the kernel's randomness fills the whole span and is not repeated") {
  std::array<std::byte, 32> first{};
  std::array<std::byte, 32> second{};
  fill_random(first);
  fill_random(second);
  CHECK(first != second);
  CHECK(first != std::array<std::byte, 32>{});
}
