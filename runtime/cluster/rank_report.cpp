#include "runtime/cluster/rank_report.hpp"

#include "protocols/metrics/view_machine.hpp"
#include "runtime/base/flight_recorder.hpp"

namespace troupe::cluster {

using namespace protocols;

rank_report::rank_report(const actors::rank_context& rank) : rank_(rank), pace_(view_period(rank.spec.timeouts)) {}

const counters* rank_report::next(life_state here, time_point now) {
  if (!pace_.is_due(now))
    return nullptr;
  const auto live = base::flight().live();
  said_.state = here;
  said_.activity = activity_of(live.activities());
  said_.progress = live.progress();
  said_.view_taken = rank_.sight ? rank_.sight->taken() : 0;
  rank_.counted->read(said_);
  return &said_;
}

} // namespace troupe::cluster
