#include "protocols/cluster/watchdog_machine.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <utility>

namespace troupe::protocols {

namespace {

using std::chrono::milliseconds;

/// Two looks may be a heartbeat apart; what a machine under load adds to that is not counted as silence.
duration longest_look(const cluster_spec::timeouts_section& timeouts) {
  return 2 * milliseconds{timeouts.heartbeat_ms};
}

liveness_judge judge_within(const cluster_spec::timeouts_section& timeouts, std::uint32_t silent_ms) {
  return liveness_judge{{.suspect = milliseconds{std::min(timeouts.suspect_ms, silent_ms)},
                         .silent = milliseconds{silent_ms},
                         .look = longest_look(timeouts)}};
}

} // namespace

watchdog_machine::watchdog_machine(const cluster_spec::timeouts_section& timeouts, std::size_t threads_max,
                                   std::span<const rank_id> peers)
    : threads_(threads_max, {.computing = judge_within(timeouts, timeouts.progress_ms),
                             .waiting = judge_within(timeouts, timeouts.collective_ms + timeouts.progress_ms)}),
      wire_(judge_within(timeouts, timeouts.kill_ms)) {
  for (const auto peer : peers)
    peers_.push_back({.rank = peer, .judge = judge_within(timeouts, timeouts.kill_ms)});
}

std::optional<watchdog_machine::finding> watchdog_machine::on_sample(const view& seen, time_point now) noexcept {
  std::optional<finding> worst;
  const auto find = [&](trouble what, std::uint32_t subject, const liveness_judge& judge, generation born = {}) {
    if (!worst || what < worst->what)
      worst = finding{what, subject, born, judge.silent_for()};
  };
  const auto judge_thread = [&](trouble what, std::size_t place, liveness_judge& judge, bool applies,
                                std::uint64_t progress) {
    if (!applies)
      judge.rest();
    else if (judge.on_sample(progress, now) == liveness_judge::liveness::silent)
      find(what, static_cast<std::uint32_t>(place), judge);
  };

  const auto threads = std::min(threads_.size(), seen.threads.size());
  for (std::size_t place = 0; place < threads; ++place) {
    const auto& thread = seen.threads[place];
    judge_thread(trouble::wedged, place, threads_[place].computing, thread.computes, thread.progress);
    judge_thread(trouble::waits_long, place, threads_[place].waiting, thread.waits, thread.progress);
  }
  if (wire_.on_sample(seen.wire_turns, now) == liveness_judge::liveness::silent)
    find(trouble::wire_wedged, 0, wire_);

  const auto peers = std::min(peers_.size(), seen.peers.size());
  for (std::size_t place = 0; place < peers; ++place) {
    auto& watch = peers_[place];
    const auto& peer = seen.peers[place];
    if (!peer.linked || std::exchange(watch.born, peer.born) != peer.born) {
      watch.judge.rest();
    } else if (watch.judge.on_sample(peer.heard, now) == liveness_judge::liveness::silent && !worst) {
      find(trouble::peer_silent, watch.rank.value, watch.judge, peer.born);
      watch.judge.rest();
    }
  }
  return worst;
}

std::string_view collective_words(const flight_record& in, std::string_view group, std::span<char> into) noexcept {
  std::size_t used = 0;
  const auto add = [&](std::string_view text) {
    const auto taken = text.substr(0, into.size() - used);
    std::ranges::copy(taken, into.begin() + static_cast<std::ptrdiff_t>(used));
    used += taken.size();
  };
  const auto add_number = [&](std::string_view before, std::uint64_t number) {
    std::array<char, 20> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
    add(before);
    add({digits.data(), end});
  };
  add("waits in ");
  add(operation_name(in.action, in.operation));
  add(" of group ");
  add(group);
  if (in.call != call_id{})
    add_number(", call ", in.call.value);
  if (in.peer != no_peer)
    add_number(", for rank ", in.peer.value);
  return {into.data(), used};
}

} // namespace troupe::protocols
