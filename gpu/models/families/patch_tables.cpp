#include <algorithm>
#include <cmath>

#include "gpu/models/families/vision_tower.hpp"

namespace troupe::gpu::models {

namespace {

/// Place `i` of `count` even steps over [0, last], in f32 and from the nearer end, as the reference's linspace.
float even_step(std::uint32_t i, std::uint32_t count, std::uint32_t last) {
  if (count == 1)
    return 0.0F;
  const auto end = static_cast<float>(last);
  const float step = end / static_cast<float>(count - 1);
  return i < count / 2 ? step * static_cast<float>(i) : end - step * static_cast<float>(count - 1 - i);
}

struct neighbours {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  float towards_high = 0.0F;
};
neighbours around(float place, std::uint32_t last) {
  const auto low = static_cast<std::uint32_t>(place);
  return {low, std::min(low + 1, last), place - static_cast<float>(low)};
}

void add_position(patch_tables& to, const neighbours& y, const neighbours& x, std::uint32_t side) {
  for (const auto& [row, row_weight] : {std::pair{y.low, 1.0F - y.towards_high}, std::pair{y.high, y.towards_high}})
    for (const auto& [column, column_weight] :
         {std::pair{x.low, 1.0F - x.towards_high}, std::pair{x.high, x.towards_high}}) {
      to.corners.push_back(static_cast<std::int32_t>(row * side + column));
      to.weights.push_back(row_weight * column_weight);
    }
}

} // namespace

patch_tables tables_of(const model_facts& facts, const vision_config& vision, std::uint32_t rows,
                       std::uint32_t columns) {
  const std::uint32_t quarter = vision.hidden / facts.vision_heads / 4;
  std::vector<float> turn(quarter);
  for (std::uint32_t i = 0; i < quarter; ++i)
    turn[i] = static_cast<float>(std::pow(vision.theta, -static_cast<double>(i) / quarter));

  patch_tables tables;
  const auto add_angles = [&](std::uint32_t place) {
    for (const float each : turn) {
      tables.cos.push_back(std::cos(static_cast<float>(place) * each));
      tables.sin.push_back(std::sin(static_cast<float>(place) * each));
    }
  };
  const std::uint32_t last = vision.grid - 1;
  const auto add_patch = [&](std::uint32_t row, std::uint32_t column) {
    add_position(tables, around(even_step(row, rows, last), last), around(even_step(column, columns, last), last),
                 vision.grid);
    add_angles(row);
    add_angles(column);
  };
  for (std::uint32_t block_row = 0; block_row < rows; block_row += facts.merge)
    for (std::uint32_t block_column = 0; block_column < columns; block_column += facts.merge)
      for (std::uint32_t y = 0; y < facts.merge; ++y)
        for (std::uint32_t x = 0; x < facts.merge; ++x)
          add_patch(block_row + y, block_column + x);
  return tables;
}

} // namespace troupe::gpu::models
