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

/// How long things take in one run, and how often which of them goes wrong. Chances are of 65,536. The seed draws all
/// of it, so that some runs are calm and some are hell, and each kind of fault is alone in some.
struct weather {
  protocols::duration hop = 20us;    ///< from one thread of a rank to another
  protocols::duration frame = 100us; ///< from one rank to another
  protocols::duration compute = 2ms; ///< a step
  protocols::duration copy = 200us;  ///< some pieces of a write

  std::uint32_t late = 0; ///< whatever takes time takes around `late_by` longer
  protocols::duration late_by = 300ms;

  std::uint32_t pause = 0; ///< a rank is stopped; asked for each rank in each `look`
  protocols::duration pause_for = 500ms;
  std::uint32_t crash = 0; ///< a rank is killed; likewise
  std::uint32_t cut = 0;   ///< the lane between two ranks breaks; likewise
  std::uint32_t partition =
      0; ///< nothing passes between two halves of the cells, one way or both; asked in each `look`
  protocols::duration partition_for = 1s;
  std::uint32_t stillborn = 0; ///< a process that is started does nothing

  std::uint32_t slow_step = 0; ///< a step takes around `slow_by` longer
  protocols::duration slow_by = 500ms;
  std::uint32_t hang = 0;      ///< a rank does not come back from a step
  std::uint32_t no_memory = 0; ///< of a step, of a question that is read, of a write that is begun
  std::uint32_t wrong =
      0; ///< a prompt is prefilled that nobody asked for; a rank chooses another token than its leader

  std::uint32_t lost_frame = 0;
  std::uint32_t failed_write = 0; ///< the network reports an error; its bytes may arrive all the same
  std::uint32_t crawl = 0;        ///< some pieces of a write take around `crawl_by`
  protocols::duration crawl_by = 1s;
  std::uint32_t clock_apart = 0; ///< a rank's clock is off, in thousandths, at most

  protocols::duration reading = 2ms; ///< of a question, by a reader of the front
  std::uint32_t cancel = 0;          ///< of a question
  std::uint32_t leave = 0;           ///< of a client, beside each question
  std::uint32_t half = 0;            ///< an upload that ends half way
  std::uint32_t slow = 0;            ///< an upload that takes up to `slow_upload`
  protocols::duration slow_upload = 1s;
  std::uint32_t deaf = 0;  ///< a client that reads no answer
  std::uint32_t flood = 0; ///< many questions at once

  static constexpr protocols::duration look = 50ms;

  bool breaks_ranks() const noexcept { return crash + cut + lost_frame + stillborn + hang + partition > 0; }
  bool hinders() const noexcept {
    return breaks_ranks() || pause + late + failed_write + crawl + slow_step + no_memory + wrong > 0;
  }
};

/// What goes wrong, or what a client does, with a chance of its own.
struct mischief {
  std::string_view name;
  std::uint32_t weather::*chance;
};
std::span<const mischief> mischiefs() noexcept;
/// Names by comma, as bits by row; nothing where a name is none. And back.
std::optional<std::uint32_t> bits_of(std::string_view names);
std::string names_of(std::uint32_t bits);

weather draw_weather(draw& dice);
/// The same delays, and nothing goes wrong any more.
weather healed(weather from) noexcept;

} // namespace troupe::sim
