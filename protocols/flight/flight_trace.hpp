#pragma once

#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/flight/flight_ring.hpp"
#include "protocols/time.hpp"

/// What the records of all ranks say together: who failed first, what each was in the middle of, who waited for whom.
///
/// The supervisor's verdict holds where there is one: it sees how processes end; but a rank that left because it had
/// waited too long for one other points to that one, which may be stopped and end last. Without a verdict (the
/// supervisor died too, or nobody has died) the first rank is taken that was ended from outside or raised a fault of
/// its own; a rank that says "my peer is gone" or "my peer is late" is a consequence, and where there is nothing else
/// the one is taken that the others wait for while it waits for nobody.
namespace troupe::protocols {

struct flight_trace {
  struct rank_line {
    rank_id rank;
    generation born;
    std::string label; ///< empty: neither its record nor the plan tells
    std::string host;
    bool recorded = false;            ///< false: it left no record, the rest is empty
    flight_activity in;               ///< the most telling of what its threads were in
    std::int64_t lasted_ns = 0;       ///< of `in`, until it ended or the time of judgement
    std::vector<rank_id> waits_for;   ///< those that `in` needs and that have not come
    std::optional<flight_record> end; ///< as the supervisor saw it
    std::string words;                ///< what it said of its fault
    std::string text;                 ///< all of it, on one line

    bool operator==(const rank_line&) const = default;
  };
  /// The loss of one cell that was made good: which rank of it failed first, and the generation that took the place.
  /// Cells that were lost together have the same.
  struct recovery {
    generation born;
    rank_id first;
    std::string text; ///< who, what it was in, how it ended

    bool operator==(const recovery&) const = default;
  };

  std::optional<rank_id> first; ///< nothing: no rank has failed
  /// The supervisor named a rank that had waited in vain for `first`, whose fault it could not see.
  bool beyond_verdict = false;
  std::string cause;                ///< who waited for `first`, then the supervisor's words; else the rank's own
  std::vector<rank_line> ranks;     ///< by rank
  std::vector<recovery> recoveries; ///< oldest first; those that the supervisor's records still tell of

  /// For people: who failed first and what it was in, a line for each recovery before that, then one for each rank.
  std::string text() const;
};

/// Puts the clocks of all hosts on that of the first story: within a host the steady clock is one, between two the wall
/// clocks that were read beside it must do.
void align_clocks(std::vector<flight_story>& stories);

/// `stories` aligned; of a rank with several generations the newest counts. `plan`, where there is one, names ranks
/// that left no record, and the members of groups. `now_ns`: for a job that still runs; waiting then counts as a fault
/// only after `stalled_after`. Contract: C8, J1.
flight_trace trace_flight(const std::vector<flight_story>& stories, const cluster_plan* plan,
                          std::optional<std::int64_t> now_ns = std::nullopt,
                          duration stalled_after = std::chrono::seconds{2});

} // namespace troupe::protocols
