#include "tests/sim/weather.hpp"

#include <algorithm>

namespace troupe::sim {

namespace {

/// One of four magnitudes up to `most`.
std::uint32_t some_chance(draw& dice, std::uint32_t most) {
  return most >> (2 * dice.below(4));
}

/// Nothing in half of the runs.
std::uint32_t drawn_chance(draw& dice, std::uint32_t most) {
  return dice.below(2) == 0 ? 0 : some_chance(dice, most);
}

/// Nothing in most of the runs.
std::uint32_t rare_chance(draw& dice, std::uint32_t most) {
  return dice.below(6) == 0 ? some_chance(dice, most) : 0;
}

std::chrono::milliseconds drawn_ms(draw& dice, std::uint64_t first, std::uint64_t last) {
  return std::chrono::milliseconds{dice.between(first, last)};
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
  sky.slow = drawn_chance(dice, 16'000);
  sky.slow_upload = drawn_ms(dice, 10, 8000);
  sky.deaf = drawn_chance(dice, 4'000);
  sky.reading = dice.below(4) == 0 ? drawn_ms(dice, 5, dice.below(8) == 0 ? 20'000 : 500) : sky.compute;
  if (dice.below(4) == 0) // a quarter of the runs: only clients misbehave
    return sky;
  sky.late = drawn_chance(dice, 4'000);
  sky.late_by = drawn_ms(dice, 5, 3000);
  sky.pause = drawn_chance(dice, 3'000);
  sky.pause_for = drawn_ms(dice, 20, 6000);
  sky.failed_write = drawn_chance(dice, 6'000);
  sky.crawl = rare_chance(dice, 20'000);
  sky.crawl_by = drawn_ms(dice, 50, 4000);
  sky.slow_step = rare_chance(dice, 6'000);
  sky.slow_by = drawn_ms(dice, 50, 4000);
  sky.no_memory = rare_chance(dice, 1'000);
  sky.wrong = rare_chance(dice, 2'000);
  sky.clock_apart = dice.below(2) == 0 ? 0 : static_cast<std::uint32_t>(dice.between(1, 100));
  if (dice.below(2) == 0)
    return sky;
  sky.crash = drawn_chance(dice, 800);
  sky.cut = drawn_chance(dice, 400);
  sky.lost_frame = drawn_chance(dice, 400);
  sky.partition = rare_chance(dice, 3'000);
  sky.partition_for = drawn_ms(dice, 20, 5000);
  sky.stillborn = rare_chance(dice, 6'000);
  sky.hang = rare_chance(dice, 600);
  return sky;
}

std::span<const mischief> mischiefs() noexcept {
  static constexpr mischief all[] = {{"late", &weather::late},
                                     {"pause", &weather::pause},
                                     {"crash", &weather::crash},
                                     {"cut", &weather::cut},
                                     {"partition", &weather::partition},
                                     {"stillborn", &weather::stillborn},
                                     {"slow-step", &weather::slow_step},
                                     {"hang", &weather::hang},
                                     {"no-memory", &weather::no_memory},
                                     {"wrong", &weather::wrong},
                                     {"lost-frame", &weather::lost_frame},
                                     {"failed-write", &weather::failed_write},
                                     {"crawl", &weather::crawl},
                                     {"clock", &weather::clock_apart},
                                     {"cancel", &weather::cancel},
                                     {"leave", &weather::leave},
                                     {"half", &weather::half},
                                     {"slow", &weather::slow},
                                     {"deaf", &weather::deaf},
                                     {"flood", &weather::flood}};
  return all;
}

std::optional<std::uint32_t> bits_of(std::string_view names) {
  std::uint32_t bits = 0;
  while (!names.empty()) {
    const auto name = names.substr(0, names.find(','));
    const auto row = std::ranges::find(mischiefs(), name, &mischief::name);
    if (row == mischiefs().end())
      return std::nullopt;
    bits |= std::uint32_t{1} << (row - mischiefs().begin());
    names.remove_prefix(std::min(names.size(), name.size() + 1));
  }
  return bits;
}

std::string names_of(std::uint32_t bits) {
  std::string names;
  for (std::size_t i = 0; i < mischiefs().size(); ++i)
    if ((bits >> i & 1) != 0)
      names += (names.empty() ? "" : ",") + std::string{mischiefs()[i].name};
  return names;
}

weather healed(weather from) noexcept {
  weather sky;
  sky.hop = from.hop;
  sky.frame = from.frame;
  sky.compute = from.compute;
  sky.copy = from.copy;
  sky.reading = from.compute;
  sky.clock_apart = from.clock_apart;
  return sky;
}

} // namespace troupe::sim
