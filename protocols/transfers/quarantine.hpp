#pragma once

#include <deque>
#include <vector>

#include "protocols/limits.hpp"
#include "protocols/own_time.hpp"

namespace troupe::protocols {

/// Slots that an aborted write may still reach or read (`may_still_arrive`). They are not reused for
/// `limits::slot_quarantine` of this rank's own time, which is at least `timeouts.transfer_ms` (checked when a spec is
/// read). Contract: I24, K2.
template <class Piece>
class quarantine {
public:
  void add(Piece piece) { rests_.push_back({piece, time_.ran() + limits::slot_quarantine}); }

  /// Pieces whose rest is over, in the order in which they were added.
  std::vector<Piece> end_due(time_point now) {
    time_.advance(now);
    std::vector<Piece> out;
    for (; !rests_.empty() && rests_.front().until <= time_.ran(); rests_.pop_front())
      out.push_back(rests_.front().piece);
    return out;
  }

  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(rests_.size()); }

private:
  struct rest {
    Piece piece;
    duration until; ///< of own time
  };

  own_time time_;
  std::deque<rest> rests_;
};

} // namespace troupe::protocols
