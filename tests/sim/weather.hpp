#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "protocols/time.hpp"
#include "tests/sim/draw.hpp"

namespace troupe::sim {

using namespace std::chrono_literals;

/// How long things take in one schedule, and how likely each kind of fault is. Chances are in 65,536ths. The seed draws
/// all of it: some schedules have few faults, some have many, and in some only one kind of fault occurs.
struct weather {
  protocols::duration hop = 20us;    ///< from one thread of a rank to another
  protocols::duration frame = 100us; ///< from one rank to another
  protocols::duration compute = 2ms; ///< a step
  protocols::duration copy = 200us;  ///< a few pieces of a write

  std::uint32_t late = 0; ///< chance that any delay is about `late_by` longer
  protocols::duration late_by = 300ms;

  std::uint32_t pause = 0; ///< a rank is stopped; drawn for each rank every `look`
  protocols::duration pause_for = 500ms;
  std::uint32_t crash = 0; ///< a rank is killed; drawn likewise
  std::uint32_t cut = 0;   ///< the lane between two ranks breaks; drawn likewise
  /// Nothing passes between two halves of the cells, one way or both; drawn every `look`.
  std::uint32_t partition = 0;
  protocols::duration partition_for = 1s;
  std::uint32_t stillborn = 0; ///< a process does nothing after its start

  std::uint32_t slow_step = 0; ///< a step takes about `slow_by` longer
  protocols::duration slow_by = 500ms;
  std::uint32_t hang = 0;      ///< a rank hangs in a step
  std::uint32_t no_memory = 0; ///< memory runs out in a step, while a question is read, or when a write begins
  /// A prompt is prefilled that nobody asked for, or a rank chooses another token than its leader.
  std::uint32_t wrong = 0;

  std::uint32_t lost_frame = 0;
  std::uint32_t failed_write = 0; ///< the network reports an error; its bytes may arrive all the same
  std::uint32_t crawl = 0;        ///< some pieces of a write take about `crawl_by`
  protocols::duration crawl_by = 1s;
  std::uint32_t clock_apart = 0; ///< not a chance: how far a rank's clock may be off, in thousandths

  protocols::duration reading = 2ms; ///< in which a reader of the front reads a question
  std::uint32_t cancel = 0;          ///< a client cancels a question
  std::uint32_t leave = 0;           ///< a client leaves; drawn at each question
  std::uint32_t half = 0;            ///< an upload stops half way
  std::uint32_t slow = 0;            ///< an upload takes up to `slow_upload`
  protocols::duration slow_upload = 1s;
  std::uint32_t deaf = 0;  ///< a client reads no answer
  std::uint32_t flood = 0; ///< many questions come at once

  /// How often faults that strike ranks and lanes are drawn.
  static constexpr protocols::duration look = 50ms;

  bool breaks_ranks() const noexcept { return crash + cut + lost_frame + stillborn + hang + partition > 0; }
  bool hinders() const noexcept {
    return breaks_ranks() || pause + late + failed_write + crawl + slow_step + no_memory + wrong > 0;
  }
};

/// A kind of fault, or of a client's conduct, that has a chance of its own.
struct mischief {
  std::string_view name;
  std::uint32_t weather::*chance;
};
std::span<const mischief> mischiefs() noexcept;
/// Names with commas between them as a bit for each row of `mischiefs`; none: a name is unknown. And back.
std::optional<std::uint32_t> bits_of(std::string_view names);
std::string names_of(std::uint32_t bits);

weather draw_weather(draw& dice);
/// The same delays and clocks, with no faults.
weather healed(weather from) noexcept;

} // namespace troupe::sim
