#include "gpu/models/tokenizers/tokenizer_bpe.hpp"

#include <algorithm>
#include <queue>

#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

namespace troupe::gpu::models {
namespace {

constexpr std::size_t none = static_cast<std::size_t>(-1);

/// Printable bytes stand for themselves; the others follow from U+0100 on, in order.
bool stands_for_itself(unicode::code_point byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

/// The bytes that U+0100, U+0101, ... stand for.
std::string shifted_bytes() {
  std::string out;
  for (unicode::code_point byte = 0; byte < 256; ++byte)
    if (!stands_for_itself(byte))
      out.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
  return out;
}

std::uint64_t key_of(protocols::token_id left, protocols::token_id right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

} // namespace

std::optional<std::string> bytes_of_alphabet(std::string_view token) {
  static const std::string shifted = shifted_bytes();
  std::string out;
  for (unicode::code_point c : unicode::decode(token)) {
    if (c < 256 && stands_for_itself(c))
      out.push_back(static_cast<char>(static_cast<unsigned char>(c)));
    else if (c >= 256 && c - 256 < shifted.size())
      out.push_back(shifted[c - 256]);
    else
      return std::nullopt;
  }
  return out;
}

void byte_pairs::add_token(std::string bytes, protocols::token_id id) {
  if (bytes.size() == 1)
    single_bytes_[static_cast<unsigned char>(bytes[0])] = id;
  ids_.insert_or_assign(std::move(bytes), id);
}

void byte_pairs::add_merge(protocols::token_id left, protocols::token_id right, protocols::token_id whole) {
  merges_.insert_or_assign(key_of(left, right), merge{next_rank_++, whole});
}

std::optional<protocols::token_id> byte_pairs::find(std::string_view bytes) const {
  const auto at = ids_.find(bytes);
  return at == ids_.end() ? std::nullopt : std::optional{at->second};
}

const byte_pairs::merge* byte_pairs::find_merge(protocols::token_id left, protocols::token_id right) const {
  const auto at = merges_.find(key_of(left, right));
  return at == merges_.end() ? nullptr : &at->second;
}

void byte_pairs::encode(std::string_view piece, std::vector<protocols::token_id>& out) const {
  struct symbol {
    protocols::token_id id;
    std::size_t before;
    std::size_t after;
    bool merged_away = false;
  };
  struct candidate {
    std::uint32_t rank;
    std::size_t left;
    protocols::token_id whole;
    bool operator>(const candidate& other) const { return std::pair{rank, left} > std::pair{other.rank, other.left}; }
  };

  std::vector<symbol> symbols;
  symbols.reserve(piece.size());
  for (std::size_t i = 0; i < piece.size(); ++i)
    symbols.push_back({single_bytes_[static_cast<unsigned char>(piece[i])], i == 0 ? none : i - 1,
                       i + 1 == piece.size() ? none : i + 1});

  std::priority_queue<candidate, std::vector<candidate>, std::greater<>> queue;
  const auto offer = [&](std::size_t left) {
    if (left == none || symbols[left].after == none)
      return;
    if (const merge* found = find_merge(symbols[left].id, symbols[symbols[left].after].id))
      queue.push({found->rank, left, found->whole});
  };
  for (std::size_t i = 0; i < symbols.size(); ++i)
    offer(i);

  while (!queue.empty()) {
    const candidate best = queue.top();
    queue.pop();
    symbol& left = symbols[best.left];
    if (left.merged_away || left.after == none)
      continue;
    symbol& right = symbols[left.after];
    // A neighbour has merged since this was offered: the pair is another one now, or none.
    const merge* still = find_merge(left.id, right.id);
    if (!still || still->rank != best.rank)
      continue;
    left.id = best.whole;
    right.merged_away = true;
    left.after = right.after;
    if (left.after != none)
      symbols[left.after].before = best.left;
    offer(left.before);
    offer(best.left);
  }
  for (const symbol& s : symbols)
    if (!s.merged_away)
      out.push_back(s.id);
}

} // namespace troupe::gpu::models
