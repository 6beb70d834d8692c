#pragma once

#include <algorithm>
#include <limits>
#include <string_view>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/serve/mesh_plan.hpp"
#include "protocols/serve/request_messages.hpp"
#include "protocols/serve/transfer_messages.hpp"
#include "protocols/time.hpp"

/// What the machines of `serve` send: one closed set, so that an actor carries out any of them in one place.
namespace troupe::protocols {

using serve_message =
    std::variant<submit, encode, tokens, timing, reserve_kv, reserve_rows, reserve_blocks, grant_rows, grant_blocks,
                 grant_pixels, arrived, kv_sent, handover, release, revoke_rows, revoke_blocks, pixels_returned,
                 rows_returned, blocks_returned, rows_quiet, blocks_quiet, error, ack, cancel>;

/// Effect: deliver `body` to the role actor on `to` (this rank included).
struct send_message {
  rank_id to;
  serve_message body;

  bool operator==(const send_message&) const = default;
};

/// What the leader of `cell` tells the front of a request that has failed; `where` is the cell's part of it.
inline send_message request_failed(const cell_plan& cell, rank_id front, std::string_view where, request_id request,
                                   const failure& cause) {
  return {front, error{.code = static_cast<std::uint16_t>(cause.code),
                       .message = cause.what,
                       .origin = cell.leader(),
                       .call = {},
                       .where = std::string{where},
                       .request = request}};
}

/// Effect of a leader: ask every rank of the mesh what it knows of `rooms`.
struct room_vote {
  request_id request;
  std::vector<room_id> rooms;
  bool operator==(const room_vote&) const = default;
};

/// Effect of a member: what this rank will say of the room when the mesh votes.
struct room_admission {
  room_id room;
  admission status = admission::pending;
  bool operator==(const room_admission&) const = default;
};
/// Effect of a member: the room has ended here.
struct room_forgotten {
  room_id room;
  bool operator==(const room_forgotten&) const = default;
};

/// What is left until `until`, for a message: rounded up, 0 when it has passed.
inline std::uint32_t ms_left(time_point until, time_point now) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now).count();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(left, 0, std::numeric_limits<std::uint32_t>::max()));
}

/// Rooms that have ended, remembered so that a late frame meets a tombstone and not a new room (C37, D11).
/// Bounded: the oldest is forgotten; a frame later than that finds no room and waits for its own deadline.
class tombstones {
public:
  static constexpr std::size_t kept_max = 1024;

  void retire(std::uint64_t id) {
    if (retired(id))
      return;
    if (ids_.size() < kept_max) {
      ids_.push_back(id);
      return;
    }
    ids_[oldest_] = id;
    oldest_ = (oldest_ + 1) % kept_max;
  }
  bool retired(std::uint64_t id) const noexcept {
    for (const auto each : ids_)
      if (each == id)
        return true;
    return false;
  }

private:
  std::vector<std::uint64_t> ids_;
  std::size_t oldest_ = 0;
};

} // namespace troupe::protocols
