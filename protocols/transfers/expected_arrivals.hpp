#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "protocols/ids.hpp"

namespace troupe::protocols {

/// Maps a writer and its completion data to the place where the bytes belong.
/// Each entry is taken once. A repeated completion, or one for a room that has ended, finds no entry and nothing is
/// copied, because the owner may have written there since.
/// Contract: D11, I24.
/// Ownership: whoever expects something forgets it when the room ends, which bounds the number.
template <class Where>
class expected_arrivals {
public:
  void expect(rank_id from, std::uint64_t completion_data, Where where) {
    expected_.insert_or_assign({completion_data, from}, std::move(where));
  }
  /// From all writers.
  void forget(std::uint64_t completion_data) {
    std::erase_if(expected_, [&](const auto& each) { return each.first.first == completion_data; });
  }
  std::optional<Where> take(rank_id from, std::uint64_t completion_data) {
    auto found = expected_.extract({completion_data, from});
    return found.empty() ? std::nullopt : std::optional{std::move(found.mapped())};
  }

private:
  std::map<std::pair<std::uint64_t, rank_id>, Where> expected_;
};

} // namespace troupe::protocols
