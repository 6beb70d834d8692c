#include "protocols/serve/conversation.hpp"

#include <algorithm>
#include <utility>

namespace troupe::protocols {

conversation one_turn(std::string words, std::size_t pictures) {
  chat_message turn{.role = "user",
                    .content = std::vector<chat_part>(pictures, {.is = chat_part_kind::picture, .text = {}}),
                    .in_parts = pictures > 0,
                    .name = {},
                    .reasoning_content = {},
                    .more = {}};
  turn.content.push_back({.is = chat_part_kind::text, .text = std::move(words)});
  conversation out;
  out.messages.push_back(std::move(turn));
  return out;
}

std::size_t pictures_in(const conversation& what) noexcept {
  std::size_t out = 0;
  for (const auto& message : what.messages)
    out += static_cast<std::size_t>(std::ranges::count(message.content, chat_part_kind::picture, &chat_part::is));
  return out;
}

} // namespace troupe::protocols
