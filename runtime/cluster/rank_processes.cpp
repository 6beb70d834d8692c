#include "runtime/cluster/rank_processes.hpp"

#include <utility>

#include "protocols/flight/flight_words.hpp"
#include "runtime/base/fault_point.hpp"
#include "runtime/base/flight_files.hpp"
#include "runtime/base/one_line.hpp"
#include "runtime/cluster/thread_state.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

/// Of the line that says how a rank ended.
constexpr std::size_t last_words_bytes_max = 400;

} // namespace

result<void> rank_processes::start_all(rank_launcher::job_data how) {
  auto launcher = rank_launcher::make(std::move(how));
  if (!launcher)
    return tl::unexpected{launcher.error()};
  launcher_.emplace(std::move(*launcher));
  constexpr generation first{1};
  for (const auto& rank : plan_.ranks) {
    auto started = launcher_->launch(rank, first, first_epoch);
    if (!started)
      return tl::unexpected{started.error()};
    ranks_.push_back(std::move(*started));
    pulses_.push_back(pulse_of(rank.id, first));
    note_spawned(rank.id, first);
    beat();
    TROUPE_FAULT_POINT("supervisor.spawning");
  }
  return {};
}

result<void> rank_processes::start_again(rank_id rank, generation born, cache_epoch epoch) {
  auto started = launcher_->launch(plan_.rank(rank), born, epoch);
  if (!started)
    return tl::unexpected{started.error()};
  ranks_[rank.value] = std::move(*started);
  pulses_[rank.value] = pulse_of(rank, born);
  note_spawned(rank, born);
  return {};
}

void rank_processes::beat() noexcept {
  record_.beat();
  if (launcher_)
    launcher_->beat();
}

void rank_processes::kill(rank_id rank) {
  record_.note({.peer = rank, .action = flight_action::killed});
  at(rank).kill();
}

rank_pulse::sight rank_processes::read_pulse(rank_id rank, time_point now) {
  const auto& one = at(rank);
  return one.running() && !one.was_killed() ? pulses_[rank.value].read(one.pid(), now) : rank_pulse::sight{};
}

bool rank_processes::is_starved(rank_id rank) const {
  if (rank.value >= ranks_.size())
    return false;
  const auto& one = *ranks_[rank.value];
  return one.running() && state_of_thread(one.pid(), lanes_thread) == thread_state::runnable;
}

void rank_processes::note_end(const supervised_rank& rank) {
  const bool by_signal = rank.end()->how == rank_end::kind::signalled;
  record_.note({.item = static_cast<std::uint64_t>(rank.end()->number),
                .peer = rank.plan().id,
                .operation = by_signal ? std::uint16_t{1} : std::uint16_t{0},
                .action = flight_action::ended});
}

std::string rank_processes::last_words(const supervised_rank& rank, generation born) const {
  const auto& end = *rank.end();
  if (end.how != rank_end::kind::exited || end.is_orderly() || end.is_consequence())
    return {};
  const auto story = base::read_flight_file(base::flight_file(paths_.flight_folder(), rank.plan().id, born));
  return story ? base::one_line(protocols::last_words(*story), last_words_bytes_max) : std::string{};
}

void rank_processes::note_spawned(rank_id rank, generation born) {
  record_.note({.item = static_cast<std::uint64_t>(at(rank).pid()),
                .number = born.value,
                .peer = rank,
                .action = flight_action::spawned});
}

void rank_processes::note_sent(rank_id to, message_type type) {
  record_.note({.peer = to, .operation = static_cast<std::uint16_t>(type), .action = flight_action::frame_sent});
}

rank_pulse rank_processes::pulse_of(rank_id rank, generation born) const {
  return {base::flight_file(paths_.flight_folder(), rank, born), spec_.timeouts};
}

} // namespace troupe::cluster
