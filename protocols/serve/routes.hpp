#pragma once

#include <algorithm>
#include <array>

#include "protocols/cluster/route.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/serve/roles.hpp"

/// Who may send which message to whom in `serve`. A message of `serve_message` without a row does not compile
/// (`validate_message.cpp`).
/// Contract: K4, A8, B5, B17.
namespace troupe::protocols {

namespace stations {
inline constexpr station front{serve_role::front, seat::leader};
inline constexpr station encode_leader{serve_role::encode, seat::leader};
inline constexpr station encode_worker{serve_role::encode, seat::worker};
inline constexpr station encode_rank{serve_role::encode, seat::any};
inline constexpr station prefill_leader{serve_role::prefill, seat::leader};
inline constexpr station prefill_rank{serve_role::prefill, seat::any};
inline constexpr station decode_leader{serve_role::decode, seat::leader};
inline constexpr station decode_rank{serve_role::decode, seat::any};
} // namespace stations

/// The front orders work from leaders alone; a leader announces it to its cell on the plan channel (B17).
inline constexpr auto serve_routes = [] {
  namespace at = stations;
  namespace type = serve_type;
  using enum reach;
  return std::to_array<route>({
      // work
      {type::submit, at::front, at::prefill_leader},
      {type::encode, at::front, at::encode_leader},
      {type::reserve_kv, at::front, at::decode_leader},
      {type::cancel, at::front, at::encode_leader},
      {type::cancel, at::front, at::prefill_leader},
      {type::cancel, at::front, at::decode_leader},
      // rooms
      {type::grant_pixels, at::encode_leader, at::front},
      {type::reserve_rows, at::prefill_leader, at::prefill_rank, own_cell},
      {type::grant_rows, at::prefill_rank, at::encode_leader},
      {type::reserve_blocks, at::decode_leader, at::decode_rank, own_cell},
      {type::grant_blocks, at::decode_rank, at::prefill_rank},
      {type::arrived, at::encode_worker, at::encode_leader, own_cell},
      {type::arrived, at::prefill_rank, at::prefill_leader, own_cell},
      {type::arrived, at::decode_rank, at::decode_leader, own_cell},
      {type::kv_sent, at::prefill_rank, at::prefill_leader, own_cell},
      {type::handover, at::prefill_leader, at::decode_leader},
      {type::release, at::prefill_leader, at::prefill_rank, own_cell},
      {type::release, at::decode_leader, at::decode_rank, own_cell},
      // return of lent memory
      {type::revoke_rows, at::prefill_rank, at::encode_leader},
      {type::revoke_blocks, at::decode_rank, at::prefill_rank},
      {type::pixels_returned, at::front, at::encode_leader},
      {type::rows_returned, at::encode_leader, at::prefill_rank},
      {type::blocks_returned, at::prefill_rank, at::decode_rank},
      {type::rows_quiet, at::prefill_rank, at::prefill_leader, own_cell},
      {type::blocks_quiet, at::decode_rank, at::decode_leader, own_cell},
      // reports to the front
      {type::tokens, at::decode_leader, at::front},
      {type::timing, at::encode_leader, at::front},
      {type::timing, at::prefill_leader, at::front},
      {type::ack, at::encode_leader, at::front},
      {type::ack, at::prefill_leader, at::front},
      {type::ack, at::decode_leader, at::front},
      {message_type::error, at::encode_rank, at::front},
      {message_type::error, at::prefill_rank, at::front},
      {message_type::error, at::decode_rank, at::front},
  });
}();

/// Ranks of one role send to each other only within a cell.
static_assert(std::ranges::all_of(serve_routes, [](const route& row) {
  return (row.from.role == row.to.role) == (row.within == reach::own_cell);
}));

constexpr bool has_route(message_type message) noexcept {
  return std::ranges::any_of(serve_routes, [=](const route& row) { return row.message == message; });
}

} // namespace troupe::protocols
