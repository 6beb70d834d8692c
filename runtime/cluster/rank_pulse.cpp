#include "runtime/cluster/rank_pulse.hpp"

#include <chrono>
#include <utility>

#include "protocols/limits.hpp"
#include "runtime/cluster/thread_state.hpp"

namespace troupe::cluster {

using std::chrono::milliseconds;

rank_pulse::rank_pulse(std::filesystem::path file, const protocols::cluster_spec::timeouts_section& timeouts)
    : file_(std::move(file)), judge_{
                                  {.suspect = milliseconds{timeouts.suspect_ms},
                                   .silent = milliseconds{timeouts.kill_ms},
                                   .look = 2 * milliseconds{timeouts.heartbeat_ms},
                                   .starved = protocols::limits::starved_patience * milliseconds{timeouts.kill_ms}}} {}

rank_pulse::sight rank_pulse::read(pid_t pid, protocols::time_point now) {
  if (!view_) {
    auto opened = base::flight_view::open(file_);
    if (!opened)
      return {};
    view_ = *std::move(opened);
  }
  const auto live = view_->live();
  if (live.pulse_ns == 0)
    return {};
  sight seen;
  seen.is = judge_.on_sample(static_cast<std::uint64_t>(live.pulse_ns), now);
  if (seen.is == protocols::liveness_judge::liveness::silent)
    seen.is = judge_.excuse(state_of_thread(pid, watchdog_thread) == thread_state::runnable);
  seen.silent_for = judge_.silent_for();
  const bool suspected = seen.is != protocols::liveness_judge::liveness::alive;
  seen.newly_suspected = suspected && !std::exchange(suspected_, suspected);
  suspected_ = suspected;
  seen.sign = {
      .progress = live.progress(), .activity = protocols::activity_of(live.activities()), .suspected = suspected};
  if (live.complaints != std::exchange(complaints_, live.complaints)) {
    seen.silent_peer = live.silent;
    seen.silent_born = live.silent_born;
  }
  return seen;
}

} // namespace troupe::cluster
