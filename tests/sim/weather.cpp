#include "tests/sim/weather.hpp"

namespace troupe::sim {

namespace {

/// Nothing in half of the runs; else one of four magnitudes up to `most`.
std::uint32_t drawn_chance(draw& dice, std::uint32_t most) {
  return dice.below(2) == 0 ? 0 : most >> (2 * dice.below(4));
}

} // namespace

weather draw_weather(draw& dice) {
  weather sky;
  sky.hop = std::chrono::microseconds{dice.between(1, 100)};
  sky.frame = std::chrono::microseconds{dice.between(10, 2000)};
  sky.compute = std::chrono::microseconds{dice.between(200, 20'000)};
  sky.copy = std::chrono::microseconds{dice.between(10, 3000)};
  sky.cancel = drawn_chance(dice, 32'000);
  sky.leave = drawn_chance(dice, 8'000);
  sky.half = drawn_chance(dice, 8'000);
  sky.flood = drawn_chance(dice, 16'000);
  if (dice.below(4) == 0) // a quarter of the runs: only clients misbehave
    return sky;
  sky.late = drawn_chance(dice, 4'000);
  sky.late_by = std::chrono::milliseconds{dice.between(5, 3000)};
  sky.pause = drawn_chance(dice, 3'000);
  sky.pause_for = std::chrono::milliseconds{dice.between(20, 6000)};
  sky.failed_write = drawn_chance(dice, 6'000);
  sky.clock_apart = dice.below(2) == 0 ? 0 : static_cast<std::uint32_t>(dice.between(1, 100));
  if (dice.below(2) == 0)
    return sky;
  sky.crash = drawn_chance(dice, 800);
  sky.cut = drawn_chance(dice, 400);
  sky.lost_frame = drawn_chance(dice, 400);
  return sky;
}

weather healed(weather from) noexcept {
  weather sky;
  sky.hop = from.hop;
  sky.frame = from.frame;
  sky.compute = from.compute;
  sky.copy = from.copy;
  sky.clock_apart = from.clock_apart;
  return sky;
}

} // namespace troupe::sim
