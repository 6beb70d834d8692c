#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <string>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/wire/frame.hpp"

/// Who may send which message to whom, as data.
/// One table, since addressing in comments, judge, routing and actors disagreed: a mesh of encode ranks never served a
/// picture. The judge refuses by this table, routing finds the actor by it, protocols/README.md prints it, and a test
/// walks the effects of every machine through it.
/// A message of `serve_message` without a row does not compile (`validate_message.cpp`).
/// Contract: K4, A8, B5, B17.
namespace troupe::protocols {

/// Where a rank stands in its cell. The only rank of a cell leads it.
enum class seat : std::uint8_t {
  leader,
  worker, ///< every rank but the leader
  any,
};

/// Whether sender and receiver must be of one cell.
enum class reach : std::uint8_t {
  any_cell, ///< each in any cell of its role
  own_cell, ///< both of the same cell
};

struct station {
  role_kind role = role_kind::stub;
  seat at = seat::any;

  constexpr bool operator==(const station&) const = default;
};

/// A rank at `from` may send `message` to a rank at `to`, whose actor of `to.role` receives it.
struct route {
  message_type message{};
  station from;
  station to;
  reach within = reach::any_cell;

  constexpr bool operator==(const route&) const = default;
};

namespace stations {
inline constexpr station front{role_kind::front, seat::leader};
inline constexpr station encode_leader{role_kind::encode, seat::leader};
inline constexpr station encode_worker{role_kind::encode, seat::worker};
inline constexpr station encode_rank{role_kind::encode, seat::any};
inline constexpr station prefill_leader{role_kind::prefill, seat::leader};
inline constexpr station prefill_rank{role_kind::prefill, seat::any};
inline constexpr station decode_leader{role_kind::decode, seat::leader};
inline constexpr station decode_rank{role_kind::decode, seat::any};
} // namespace stations

/// The front orders work from leaders alone; a leader announces it to its cell on the plan channel (B17).
inline constexpr auto routes = [] {
  namespace at = stations;
  using enum message_type;
  using enum reach;
  return std::to_array<route>({
      // work
      {submit, at::front, at::prefill_leader},
      {encode, at::front, at::encode_leader},
      {reserve_kv, at::front, at::decode_leader},
      {cancel, at::front, at::encode_leader},
      {cancel, at::front, at::prefill_leader},
      {cancel, at::front, at::decode_leader},
      // rooms
      {grant_pixels, at::encode_leader, at::front},
      {reserve_rows, at::prefill_leader, at::prefill_rank, own_cell},
      {grant_rows, at::prefill_rank, at::encode_leader},
      {reserve_blocks, at::decode_leader, at::decode_rank, own_cell},
      {grant_blocks, at::decode_rank, at::prefill_rank},
      {arrived, at::encode_worker, at::encode_leader, own_cell},
      {arrived, at::prefill_rank, at::prefill_leader, own_cell},
      {arrived, at::decode_rank, at::decode_leader, own_cell},
      {kv_sent, at::prefill_rank, at::prefill_leader, own_cell},
      {handover, at::prefill_leader, at::decode_leader},
      {release, at::prefill_leader, at::prefill_rank, own_cell},
      {release, at::decode_leader, at::decode_rank, own_cell},
      // return of lent memory
      {revoke_rows, at::prefill_rank, at::encode_leader},
      {revoke_blocks, at::decode_rank, at::prefill_rank},
      {pixels_returned, at::front, at::encode_leader},
      {rows_returned, at::encode_leader, at::prefill_rank},
      {blocks_returned, at::prefill_rank, at::decode_rank},
      {rows_quiet, at::prefill_rank, at::prefill_leader, own_cell},
      {blocks_quiet, at::decode_rank, at::decode_leader, own_cell},
      // reports to the front
      {tokens, at::decode_leader, at::front},
      {timing, at::encode_leader, at::front},
      {timing, at::prefill_leader, at::front},
      {ack, at::encode_leader, at::front},
      {ack, at::prefill_leader, at::front},
      {ack, at::decode_leader, at::front},
      {error, at::encode_rank, at::front},
      {error, at::prefill_rank, at::front},
      {error, at::decode_rank, at::front},
  });
}();

/// Ranks of one role send to each other only within a cell.
static_assert(std::ranges::all_of(routes, [](const route& row) {
  return (row.from.role == row.to.role) == (row.within == reach::own_cell);
}));

constexpr bool has_route(message_type message) noexcept {
  return std::ranges::any_of(routes, [=](const route& row) { return row.message == message; });
}

/// Some of the roles of one rank.
class role_set {
public:
  constexpr void add(role_kind role) noexcept { bits_ |= bit_of(role); }
  constexpr bool contains(role_kind role) const noexcept { return (bits_ & bit_of(role)) != 0; }
  constexpr bool empty() const noexcept { return bits_ == 0; }
  /// Removes a role and returns it. The set must not be empty.
  constexpr role_kind take_first() noexcept {
    const auto first = static_cast<role_kind>(std::countr_zero(bits_));
    bits_ &= bits_ - 1;
    return first;
  }
  constexpr bool operator==(const role_set&) const = default;

private:
  static constexpr std::uint32_t bit_of(role_kind role) noexcept { return 1u << static_cast<unsigned>(role); }
  std::uint32_t bits_ = 0;
};

/// The roles of `to` whose actors receive a message of this type from `from`; empty: none may.
/// `as`: the role in which `from` sends, where it is known; a rank of role `all` has several.
role_set takers_of(const cluster_plan& plan, message_type message, rank_id from, rank_id to,
                   std::optional<role_kind> as = std::nullopt);

/// The table as protocols/README.md has it.
std::string describe_routes();

} // namespace troupe::protocols
