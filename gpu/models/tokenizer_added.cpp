#include "gpu/models/tokenizer_added.hpp"

#include <algorithm>

namespace troupe::gpu::models {

void added_tokens::add(std::string content, protocols::token_id id, bool special) {
  auto& same = by_first_byte_[content.front()];
  const auto shorter =
      std::ranges::find_if(same, [&](const token& one) { return one.content.size() < content.size(); });
  same.insert(shorter, {std::move(content), id, special});
}

std::optional<added_tokens::found> added_tokens::find(const marked_text& text, std::size_t from) const {
  const std::string_view bytes = text.bytes();
  const auto has_users = [&](std::size_t at, std::size_t length) {
    for (std::size_t i = at; i < at + length; ++i)
      if (text.of_user(i))
        return true;
    return false;
  };
  for (std::size_t at = from; at < bytes.size(); ++at) {
    const auto same = by_first_byte_.find(bytes[at]);
    if (same == by_first_byte_.end())
      continue;
    for (const auto& [content, id, special] : same->second)
      if (bytes.substr(at).starts_with(content) && !(special && has_users(at, content.size())))
        return found{at, content.size(), id};
  }
  return std::nullopt;
}

} // namespace troupe::gpu::models
