#include "protocols/watchdog_machine.hpp"

#include <algorithm>
#include <chrono>

namespace troupe::protocols {

namespace {

using std::chrono::milliseconds;

/// Two looks may be a heartbeat apart; what a machine under load adds to that is not counted as silence.
duration longest_look(const cluster_spec::timeouts_section& timeouts) {
  return 2 * milliseconds{timeouts.heartbeat_ms};
}

pulse_judge judge_within(const cluster_spec::timeouts_section& timeouts, std::uint32_t silent_ms) {
  return pulse_judge{{.suspect = milliseconds{std::min(timeouts.suspect_ms, silent_ms)},
                      .silent = milliseconds{silent_ms},
                      .look = longest_look(timeouts)}};
}

} // namespace

watchdog_machine::watchdog_machine(const cluster_spec::timeouts_section& timeouts, std::size_t threads_max,
                                   std::span<const rank_id> peers)
    : threads_(threads_max, judge_within(timeouts, timeouts.progress_ms)),
      wire_(judge_within(timeouts, timeouts.kill_ms)) {
  for (const auto peer : peers)
    peers_.push_back({.rank = peer, .judge = judge_within(timeouts, timeouts.kill_ms)});
}

std::optional<watchdog_machine::finding> watchdog_machine::on_look(const view& seen, time_point now) noexcept {
  std::optional<finding> worst;
  const auto find = [&](trouble what, std::uint32_t subject, const pulse_judge& judge) {
    if (!worst || what < worst->what)
      worst = finding{what, subject, judge.silent_for()};
  };

  const auto threads = std::min(threads_.size(), seen.threads.size());
  for (std::size_t place = 0; place < threads; ++place) {
    const auto& thread = seen.threads[place];
    if (!thread.computes)
      threads_[place].rest();
    else if (threads_[place].on_look(thread.progress, now) == pulse_judge::verdict::silent)
      find(trouble::wedged, static_cast<std::uint32_t>(place), threads_[place]);
  }
  if (wire_.on_look(seen.wire_turns, now) == pulse_judge::verdict::silent)
    find(trouble::wire_wedged, 0, wire_);

  const auto peers = std::min(peers_.size(), seen.peers.size());
  for (std::size_t place = 0; place < peers; ++place) {
    auto& watch = peers_[place];
    const auto& peer = seen.peers[place];
    if (!peer.linked) {
      watch.judge.rest();
    } else if (watch.judge.on_look(peer.heard, now) == pulse_judge::verdict::silent && !worst) {
      find(trouble::peer_silent, watch.rank.value, watch.judge);
      watch.judge.rest();
    }
  }
  return worst;
}

} // namespace troupe::protocols
