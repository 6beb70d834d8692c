#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include "gpu/bfloat16.hpp"

using troupe::gpu::narrow;
using troupe::gpu::widen;

TEST_CASE("bf16 is the nearest, and of two the even one") {
  CHECK(widen(narrow(1.0F)) == 1.0F);
  CHECK(widen(narrow(-2.5F)) == -2.5F);
  constexpr float step = 0x1p-7F; // between bf16 numbers from 1 on
  CHECK(widen(narrow(1.0F + 0.49F * step)) == 1.0F);
  CHECK(widen(narrow(1.0F + 0.51F * step)) == 1.0F + step);
  CHECK(widen(narrow(1.0F + 0.5F * step)) == 1.0F);
  CHECK(widen(narrow(1.0F + 1.5F * step)) == 1.0F + 2 * step);
}

TEST_CASE("bf16 keeps what is no number and what has no end") {
  constexpr float endless = std::numeric_limits<float>::infinity();
  CHECK(widen(narrow(endless)) == endless);
  CHECK(widen(narrow(-endless)) == -endless);
  CHECK(widen(narrow(std::numeric_limits<float>::max())) == endless);
  CHECK(std::isnan(widen(narrow(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::isnan(widen(narrow(std::bit_cast<float>(0x7f80'0001U))))); // its lower bits alone say so
}
