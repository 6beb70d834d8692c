#include <doctest/doctest.h>

#include "protocols/serve/prompt_positions.hpp"

using namespace troupe;
using protocols::positions_of;
using position = std::array<std::int32_t, 3>;

namespace {

protocols::picture_item picture(std::uint32_t first, std::uint32_t rows, std::uint32_t columns) {
  protocols::picture_item item;
  item.first_token = first;
  item.grid = {1, rows, columns};
  item.tokens = rows * columns / 4;
  return item;
}

} // namespace

TEST_CASE("F16: without pictures positions count tokens and the delta is 0") {
  const std::vector<protocols::token_id> prompt(5, 1);
  const auto out = positions_of(prompt, {}, 2);
  for (std::int32_t i = 0; i < 5; ++i)
    CHECK(out.positions[static_cast<std::size_t>(i)] == position{i, i, i});
  CHECK(out.delta == 0);
  CHECK(positions_of({}, {}, 2).positions.empty());
}

TEST_CASE("F16: a picture stands still in time and advances the text by its larger side") {
  // Given 2 tokens, a picture of 2 x 3 tokens, 1 token, a picture of 3 x 1 tokens, 2 tokens.
  const std::vector<protocols::token_id> prompt(2 + 6 + 1 + 3 + 2, 1);
  const std::vector<protocols::picture_item> pictures{picture(9, 6, 2), picture(2, 4, 6)};

  const auto out = positions_of(prompt, pictures, 2);

  const std::vector<position> expected{{0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {2, 2, 3}, {2, 2, 4}, {2, 3, 2}, {2, 3, 3},
                                       {2, 3, 4}, {5, 5, 5}, {6, 6, 6}, {6, 7, 6}, {6, 8, 6}, {9, 9, 9}, {10, 10, 10}};
  CHECK(out.positions == expected);
  CHECK(out.delta == 11 - 14);
}
