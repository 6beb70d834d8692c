#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace troupe::protocols {

/// An integer that cannot be mistaken for another kind of integer.
/// Two ids of one underlying type in a parameter list were swapped once in every system that used plain integers.
template <class Tag, class Value>
struct strong_id {
  using value_type = Value;
  Value value{};

  constexpr strong_id() noexcept = default;
  constexpr explicit strong_id(Value initial) noexcept : value(initial) {}
  constexpr auto operator<=>(const strong_id&) const noexcept = default;

  /// The id that follows; the caller keeps it within the type's range.
  constexpr strong_id next() const noexcept { return strong_id{static_cast<Value>(value + 1)}; }
};

/// Place of a rank in the cluster spec's order; stable for the life of a job.
using rank_id = strong_id<struct rank_tag, std::uint32_t>;
/// How many times a rank (or a slot) has been taken into use; part of its identity.
using generation = strong_id<struct generation_tag, std::uint32_t>;
/// A world of cached state, counted over the job. The supervisor begins the next one with each loss of ranks.
using cache_epoch = strong_id<struct epoch_tag, std::uint64_t>;
/// Monotonic over every action of one leader.
using call_id = strong_id<struct call_tag, std::uint64_t>;
/// A user's request, unique within a job.
using request_id = strong_id<struct request_tag, std::uint64_t>;
/// One request's transfer between two roles.
using room_id = strong_id<struct room_tag, std::uint64_t>;
/// Place of a cell in the cluster plan.
using cell_id = strong_id<struct cell_tag, std::uint32_t>;
/// Place of a group in the cluster plan; groups are made in this order.
using group_id = strong_id<struct group_tag, std::uint32_t>;
/// A fixed piece of a registered region.
using slot_index = strong_id<struct slot_tag, std::uint32_t>;
/// A fixed number of tokens' keys and values on one rank.
using block_index = strong_id<struct block_tag, std::uint32_t>;
/// A token of the model's vocabulary.
using token_id = std::int32_t;

/// The supervisor speaks the wire too, under a rank id that no spec can reach.
inline constexpr rank_id supervisor_rank{0xffff'fffeu};
/// The epoch in which a job starts. 0 is that of edges that are of no epoch: control sockets, and clients of the front.
inline constexpr cache_epoch first_epoch{1};
/// Clients of the front (the command line, an embedding service).
inline constexpr rank_id client_rank{0xffff'fffdu};

} // namespace troupe::protocols

template <class Tag, class Value>
struct std::hash<troupe::protocols::strong_id<Tag, Value>> {
  std::size_t operator()(troupe::protocols::strong_id<Tag, Value> id) const noexcept {
    return std::hash<Value>{}(id.value);
  }
};
