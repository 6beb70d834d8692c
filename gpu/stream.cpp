#include "gpu/stream.hpp"

#include <optional>

#include "runtime/base/flight_recorder.hpp"

namespace troupe::gpu {

using protocols::flight_action;
using protocols::result;

namespace {

/// Beyond it a wait is noted: no step takes so long, and what everybody does would fill the record.
constexpr std::chrono::milliseconds noted_after{100};

} // namespace

/// A wait that lasts stands in the flight recorder: the thread then counts as one that waits, with a deadline of its
/// own, and not as one that computes and completes nothing (C4, C8).
result<void> stream::await(const stream_event& until, protocols::time_point deadline, wait_policy how) {
  patient_wait waiting{deadline, how};
  std::optional<base::flight_span> noted;
  for (auto seen = marks_passed();;) {
    const auto here = passed(until);
    for (const auto now = marks_passed(); seen < now; ++seen)
      base::flight().tick();
    if (!here)
      return tl::unexpected(here.error());
    if (*here)
      return {};
    if (!waiting.go_on())
      return tl::unexpected(late());
    if (!noted && waiting.lasted() >= noted_after)
      noted.emplace(protocols::flight_record{.action = flight_action::device});
  }
}

result<void> stream::synchronize(protocols::time_point deadline, wait_policy how) {
  return finish_downloads(await(record_end(), deadline, how));
}

result<void> stream::synchronize() {
  return synchronize(base::now() + protocols::limits::device_deadline, wait_policy::spin);
}

} // namespace troupe::gpu
