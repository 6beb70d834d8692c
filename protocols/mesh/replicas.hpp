#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <tuple>

#include "protocols/ids.hpp"

namespace troupe::protocols {

/// What a member of a mesh holds of a prompt and every other member holds too, in a few words: it stands in memory as
/// it is gathered. Sums over a mesh are the same on all members, so what differs here was different before them: rows
/// that were written to one rank and not to another, a token's state that one rank has lost. Pieces of several prompts
/// come by turns, so rows are added up over all of them, and a difference is found at the end of whichever ends first.
struct replica {
  std::uint32_t rows = 0;        ///< `operations::checksum` of the embedding rows of all prompts so far
  std::array<float, 8> hidden{}; ///< the first elements of the last token's state; 0 past its width
};

inline constexpr std::size_t replica_words = sizeof(replica) / sizeof(float);
static_assert(replica_words == 1 + std::tuple_size_v<decltype(replica::hidden)> && offsetof(replica, rows) == 0);

/// Which member holds something else than the first, what and how much; nothing when all agree. Rows are compared bit
/// by bit, states within `limits::replica_tolerance` of the larger. Contract: G7, G9.
std::optional<std::string> compare_replicas(std::span<const replica> of, std::span<const rank_id> members);

} // namespace troupe::protocols
