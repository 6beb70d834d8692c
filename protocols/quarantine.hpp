#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/limits.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

/// Pieces of memory into which a failed write may still go: they rest before they are lent again.
/// The rest ends by time, or as soon as every rank that may have been writing is known to be unable to: a process that
/// has ended writes nothing more through shared memory. A writer that is only stopped writes when it goes on, and what
/// a network card has taken may outlive its process; of those nobody says that they are gone, and the time runs.
/// Contract: I24.
template <class Piece>
class quarantine {
public:
  /// `writers`: who may have been writing; empty: not known, so that only time ends the rest.
  void add(Piece piece, time_point now, std::vector<rank_id> writers) {
    rests_.push_back({piece, now + limits::slot_quarantine, std::move(writers)});
  }

  /// Pieces whose time is over, in the order in which they came.
  std::vector<Piece> end_due(time_point now) {
    return end_if([now](const rest& one) { return one.until <= now; });
  }

  /// Pieces whose last writer is among `gone`.
  std::vector<Piece> end_without(std::span<const rank_id> gone) {
    return end_if([gone](rest& one) {
      const auto erased = std::erase_if(
          one.writers, [gone](rank_id writer) { return std::find(gone.begin(), gone.end(), writer) != gone.end(); });
      return erased > 0 && one.writers.empty();
    });
  }

  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(rests_.size()); }

private:
  struct rest {
    Piece piece;
    time_point until;
    std::vector<rank_id> writers;
  };

  template <class Ended>
  std::vector<Piece> end_if(Ended ended) {
    std::vector<Piece> out;
    std::erase_if(rests_, [&](rest& one) {
      const bool over = ended(one);
      if (over)
        out.push_back(one.piece);
      return over;
    });
    return out;
  }

  std::deque<rest> rests_;
};

} // namespace troupe::protocols
