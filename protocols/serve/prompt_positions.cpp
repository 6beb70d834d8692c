#include "protocols/serve/prompt_positions.hpp"

#include <algorithm>

namespace troupe::protocols {

prompt_positions positions_of(std::span<const token_id> prompt, std::span<const picture_item> pictures,
                              std::uint32_t merge) {
  prompt_positions out;
  out.positions.resize(prompt.size());
  std::vector<const picture_item*> in_order;
  for (const picture_item& each : pictures)
    in_order.push_back(&each);
  std::ranges::sort(in_order, {}, &picture_item::first_token);

  std::size_t at = 0;
  std::int32_t next = 0;
  const auto text_until = [&](std::size_t end) {
    for (end = std::min(end, prompt.size()); at < end; ++at, ++next)
      out.positions[at] = {next, next, next};
  };
  for (const picture_item* picture : in_order) {
    text_until(picture->first_token);
    const auto [frames, rows, columns] = picture->grid;
    const auto height = static_cast<std::int32_t>(rows / merge);
    const auto width = static_cast<std::int32_t>(columns / merge);
    const auto times = static_cast<std::int32_t>(frames);
    for (std::int32_t t = 0; t < times; ++t)
      for (std::int32_t h = 0; h < height; ++h)
        for (std::int32_t w = 0; w < width && at < prompt.size(); ++w, ++at)
          out.positions[at] = {next + t, next + h, next + w};
    next += std::max({times, height, width});
  }
  text_until(prompt.size());
  out.delta = next - static_cast<std::int32_t>(prompt.size());
  return out;
}

} // namespace troupe::protocols
