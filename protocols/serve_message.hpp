#pragma once

#include <variant>
#include <vector>

#include "protocols/messages.hpp"

/// What the machines of `serve` send: one closed set, so that an actor carries out any of them in one place.
namespace troupe::protocols {

using serve_message = std::variant<submit, encode, tokens, timing, reserve_kv, reserve_rows, reserve_blocks, grant_rows,
                                   grant_blocks, grant_pixels, landed, shipped, handover, release, error, cancel>;

/// Effect: deliver `body` to the role actor on `to` (this rank included).
struct send_message {
  rank_id to;
  serve_message body;

  bool operator==(const send_message&) const = default;
};

/// Rooms that have ended, remembered so that a late frame meets a tombstone and not a new room (C37, D11).
/// Bounded: the oldest is forgotten; a frame later than that finds no room and waits for its own deadline.
class tombstones {
public:
  static constexpr std::size_t kept_max = 1024;

  void bury(std::uint64_t id) {
    if (buried(id))
      return;
    if (ids_.size() < kept_max) {
      ids_.push_back(id);
      return;
    }
    ids_[oldest_] = id;
    oldest_ = (oldest_ + 1) % kept_max;
  }
  bool buried(std::uint64_t id) const noexcept {
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
