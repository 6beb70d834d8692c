#include "gpu/models/tokenizers/tokenizer_added.hpp"

#include <algorithm>

#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

namespace troupe::gpu::models {

namespace {

/// Bytes of white space at the end of `text`, at its front.
std::size_t blanks_at_end(std::string_view text) {
  std::size_t bytes = 0;
  for (const unicode::code_point each : unicode::decode(text))
    bytes = unicode::is_space(each) ? bytes + unicode::utf8_bytes(each) : 0;
  return bytes;
}
std::size_t blanks_at_front(std::string_view text) {
  std::size_t bytes = 0;
  for (const unicode::code_point each : unicode::decode(text)) {
    if (!unicode::is_space(each))
      break;
    bytes += unicode::utf8_bytes(each);
  }
  return bytes;
}

} // namespace

void added_tokens::add(token one) {
  auto& same = by_first_byte_[one.content.front()];
  const auto shorter =
      std::ranges::find_if(same, [&](const token& each) { return each.content.size() < one.content.size(); });
  same.insert(shorter, std::move(one));
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
    for (const token& one : same->second) {
      const std::size_t length = one.content.size();
      if (!bytes.substr(at).starts_with(one.content) || (one.special && has_users(at, length)))
        continue;
      const std::size_t before = one.lstrip ? blanks_at_end(bytes.substr(from, at - from)) : 0;
      const std::size_t behind = one.rstrip ? blanks_at_front(bytes.substr(at + length)) : 0;
      return found{at - before, before + length + behind, one.id};
    }
  }
  return std::nullopt;
}

} // namespace troupe::gpu::models
