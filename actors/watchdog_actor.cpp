// Decides outside protocols: samples running threads without a lock, and must wait for none of them

#include "actors/watchdog_actor.hpp"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <chrono>

#include <fmt/format.h>

#include "runtime/base/clock.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_recorder.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

std::vector<rank_id> peers_of(const rank_context& rank) {
  std::vector<rank_id> peers;
  for (const auto& edge : rank.plan.edges) {
    if (edge.connects == rank.self)
      peers.push_back(edge.accepts);
    if (edge.accepts == rank.self)
      peers.push_back(edge.connects);
  }
  return peers;
}

/// A line on stderr if it takes one at once: a pipe that nobody reads must not hold the watchdog.
void print(std::string_view line) noexcept {
  pollfd out{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) != 0) {
    // Last words: the process ends with or without them.
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  }
}

} // namespace

watchdog_actor::watchdog_actor(caf::actor_config& config, const rank_context& rank,
                               const std::vector<fabric::wire::peer_signs>& signs)
    : rank_actor(config, rank, "watchdog", std::nullopt, watch::never), signs_(signs),
      machine_(rank.spec.timeouts, flight_threads_max + rank.turns->size(), peers_of(rank)),
      threads_(flight_threads_max + rank.turns->size()) {
  for (const auto peer : peers_of(rank))
    peers_.push_back({.rank = peer, .linked = false, .born = {}, .heard = 0});
}

rank_actor::handlers watchdog_actor::make_handlers() {
  return on([this](run_atom) { watch(); });
}

void watchdog_actor::watch() {
  ::pthread_setname_np(::pthread_self(), "troupe-watchdog"); // by which the supervisor knows it (thread_state.hpp)
  const auto period = std::max(1, static_cast<int>(rank_.spec.timeouts.heartbeat_ms / 2));
  for (;;) { // until the process ends
    TROUPE_FAULT_POINT("watchdog.looking");
    check();
    ::poll(nullptr, 0, period);
  }
}

void watchdog_actor::check() {
  auto& recorder = base::flight();
  recorder.beat();

  const auto here = recorder.live();
  for (std::size_t i = 0; i < here.threads_count; ++i) {
    const auto& thread = here.threads[i];
    const auto in = [&](flight_action action) { return thread.what.action == action && thread.until_ns == 0; };
    threads_[i] = {
        .computes = in(flight_action::step), .waits = in(flight_action::collective), .progress = thread.progress};
  }
  for (std::size_t i = 0; i < rank_.turns->size(); ++i) {
    const auto sign = rank_.turns->at(i);
    threads_[flight_threads_max + i] = {.computes = sign.works, .waits = false, .progress = sign.turn};
  }
  for (auto& peer : peers_) {
    const auto& signs = signs_[peer.rank.value];
    // Until every edge of the cluster is made a peer may hold a lane that it does not drive yet; the start has a
    // deadline.
    peer.linked = here.life >= life_state::ready && signs.linked.load(std::memory_order_relaxed);
    peer.born = generation{signs.born.load(std::memory_order_relaxed)};
    peer.heard = signs.frames.load(std::memory_order_relaxed);
  }
  const auto found =
      machine_.on_sample({.threads = threads_, .peers = peers_, .wire_turns = rank_.wire->turns()}, base::now());
  if (found)
    react(*found);
}

void watchdog_actor::react(const watchdog_machine::finding& found) {
  using trouble = watchdog_machine::trouble;
  if (found.what == trouble::peer_silent) {
    base::flight().complain_of(rank_id{found.subject}, found.born);
    return;
  }
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(found.since).count();
  std::array<char, 160> collective{};
  const auto who = [&]() -> std::string_view {
    if (found.what == trouble::wire_wedged)
      return "the thread of the lanes is stuck";
    if (found.subject >= flight_threads_max)
      return rank_.turns->stuck(found.subject - flight_threads_max);
    if (found.what == trouble::wedged)
      return "a step computes and completes nothing";
    const auto in = base::flight().live().threads[found.subject].what;
    const auto& groups = rank_.plan.groups;
    return collective_words(in, in.group.value < groups.size() ? std::string_view{groups[in.group.value].name} : "?",
                            collective);
  }();
  std::array<char, 240> line{};
  const auto end = fmt::format_to_n(line.data(), line.size() - 1, "watchdog: {} for {} ms: leaving\n", who, ms).out;
  const std::string_view words{line.data(), static_cast<std::size_t>(end - line.data())};
  base::flight().note({.operation = static_cast<std::uint16_t>(fault::timeout), .action = flight_action::fault});
  base::flight().say(words.substr(0, words.size() - 1));
  print(words);
  ::_exit(static_cast<int>(base::exit_code::watchdog));
}

} // namespace troupe::actors
