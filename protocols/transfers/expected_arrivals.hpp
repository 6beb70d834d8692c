#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "protocols/ids.hpp"

namespace troupe::protocols {

/// Where what peers were granted belongs, by who writes it and with which completion data.
/// Each arrival is taken once: of a word that comes again, or of a room that has ended, nothing is copied, since the
/// owner may have written there meanwhile.
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
