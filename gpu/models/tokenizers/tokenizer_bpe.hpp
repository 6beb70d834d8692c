#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "protocols/ids.hpp"

/// Byte pair encoding over bytes.
namespace troupe::gpu::models {

/// GPT-2's alphabet: each byte as one printable character, so that a vocabulary of bytes can stand in JSON.
/// Returns the bytes that `token` spells; nothing where it holds another character.
std::optional<std::string> bytes_of_alphabet(std::string_view token);

/// Ids of tokens and ranks of merges. Filled once, then only read.
class byte_pairs {
public:
  void add_token(std::string bytes, protocols::token_id id);
  /// `left` and `right` become `whole`; an earlier call is a lower rank, which merges first.
  void add_merge(protocols::token_id left, protocols::token_id right, protocols::token_id whole);

  std::optional<protocols::token_id> find(std::string_view bytes) const;

  /// Appends the ids of one piece of text. Every single byte is a token.
  /// Takes n log n: the lowest rank merges first, the leftmost of equals, as published.
  void encode(std::string_view piece, std::vector<protocols::token_id>& out) const;

private:
  struct merge {
    std::uint32_t rank;
    protocols::token_id whole;
  };
  struct bytes_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view bytes) const noexcept { return std::hash<std::string_view>{}(bytes); }
  };
  const merge* find_merge(protocols::token_id left, protocols::token_id right) const;

  std::unordered_map<std::string, protocols::token_id, bytes_hash, std::equal_to<>> ids_;
  std::unordered_map<std::uint64_t, merge> merges_; ///< by left << 32 | right
  std::uint32_t next_rank_ = 0;
  std::array<protocols::token_id, 256> single_bytes_{};
};

} // namespace troupe::gpu::models
