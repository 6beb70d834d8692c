#pragma once

#include <map>
#include <optional>
#include <vector>

#include "protocols/flight/flight_ring.hpp"

namespace troupe::protocols {

/// What the supervisor's records tell: how each rank ended, who is blamed now, and which losses were made good.
/// Its record is bounded, so it may begin in the middle of a job: what came before is not known.
/// Contract: C8, J1.
class flight_losses {
public:
  struct rank_seen {
    std::optional<generation> born;   ///< of its last start
    std::optional<flight_record> end; ///< of that generation
    bool put_down = false;            ///< by the supervisor, before its end
  };
  /// One cell that failed, and what was seen of the rank in it that failed first.
  struct loss {
    rank_id first;
    std::optional<generation> born; ///< of `first`
    std::optional<generation> next; ///< that took the place; nothing: it was not made good
    std::optional<flight_record> end;
    bool put_down = false;
  };

  /// In the order in which the supervisor wrote its records.
  void read(const flight_story& of_supervisor);

  rank_seen of(rank_id rank) const;
  /// Whom the supervisor blames, unless that was made good.
  const std::optional<flight_record>& verdict() const noexcept { return verdict_; }
  /// Its last verdict was made good: its words are of the past.
  bool recovered() const noexcept { return recovered_; }
  /// Oldest first. Cells that were lost together have one `next`.
  const std::vector<loss>& losses() const noexcept { return losses_; }

private:
  void on_spawned(const flight_record& what);

  std::map<rank_id, rank_seen> ranks_;
  std::vector<loss> losses_;
  std::optional<flight_record> verdict_;
  bool recovered_ = false;
};

} // namespace troupe::protocols
