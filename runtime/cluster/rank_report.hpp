#pragma once

#include "actors/rank_context.hpp"
#include "protocols/metrics/report_pace.hpp"
#include "protocols/metrics/view_messages.hpp"

namespace troupe::cluster {

/// What a rank tells its supervisor of itself, each `view_period`. Contract: J7.
/// Threads: the rank's main thread. `rank` outlives it.
class rank_report {
public:
  explicit rank_report(const actors::rank_context& rank);

  /// Null: it is not due. Valid until the next call.
  const protocols::counters* next(protocols::life_state here, protocols::time_point now);
  /// The main thread sleeps no longer than this.
  protocols::duration period() const noexcept { return pace_.every(); }

private:
  const actors::rank_context& rank_;
  protocols::report_pace pace_;
  protocols::counters said_; ///< reused
};

} // namespace troupe::cluster
