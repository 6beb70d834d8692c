#include "gpu/models/tokenizer_added.hpp"

#include <algorithm>

namespace troupe::gpu::models {

void added_tokens::add(std::string content, protocols::token_id id) {
  auto& same = by_first_byte_[content.front()];
  const auto shorter = std::ranges::find_if(same, [&](const auto& one) { return one.first.size() < content.size(); });
  same.emplace(shorter, std::move(content), id);
}

std::optional<added_tokens::found> added_tokens::find(std::string_view text) const {
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto same = by_first_byte_.find(text[at]);
    if (same == by_first_byte_.end())
      continue;
    for (const auto& [content, id] : same->second)
      if (text.substr(at).starts_with(content))
        return found{at, content.size(), id};
  }
  return std::nullopt;
}

} // namespace troupe::gpu::models
