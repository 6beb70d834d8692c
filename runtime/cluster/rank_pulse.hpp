#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>

#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/cluster/liveness_judge.hpp"
#include "protocols/metrics/view_machine.hpp"
#include "runtime/base/flight_files.hpp"

namespace troupe::cluster {

/// The supervisor's eye on one generation of a rank: reads, from the rank's flight record, the beat of its watchdog and
/// what that complains of. A process that is stopped closes no socket, so nothing else would tell. One whose watchdog
/// the host does not let run is starved and not silent: the kernel says so of that thread.
/// Contract: C4, C12, C13.
class rank_pulse {
public:
  rank_pulse(std::filesystem::path file, const protocols::cluster_spec::timeouts_section& timeouts);

  struct sight {
    protocols::liveness_judge::liveness is = protocols::liveness_judge::liveness::alive;
    protocols::duration silent_for{};
    bool newly_suspected = false;
    std::optional<protocols::rank_id> silent_peer;     ///< a complaint that has not been seen before
    protocols::generation silent_born;                 ///< which generation of the peer it is about
    std::optional<protocols::view_machine::sign> sign; ///< what it is doing; nothing before its first beat
  };
  /// Before the rank's first beat it is alive: its start has a deadline of its own.
  sight read(pid_t pid, protocols::time_point now);

private:
  std::filesystem::path file_;
  std::optional<base::flight_view> view_;
  protocols::liveness_judge judge_;
  bool suspected_ = false;
  std::uint64_t complaints_ = 0;
};

} // namespace troupe::cluster
