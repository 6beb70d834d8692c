#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/cluster_spec.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/cluster/rank_launcher.hpp"
#include "runtime/cluster/rank_pulse.hpp"
#include "runtime/cluster/supervised_rank.hpp"

namespace troupe::cluster {

/// The processes of a job, by rank, as its supervisor holds them: started, started anew, told, watched, killed. What is
/// done stands in the supervisor's flight record; what it means is the life machine's.
/// Their end is this object's end: with the launcher goes the death pipe.
/// Contract: C3, C45. Threads: the supervisor's.
class rank_processes {
public:
  /// All must outlive this.
  rank_processes(const protocols::cluster_plan& plan, const protocols::cluster_spec& spec, const job_paths& paths,
                 base::flight_recorder& record)
      : plan_(plan), spec_(spec), paths_(paths), record_(record) {}

  /// One process after the other, in plan order. Errors: those of the launcher; those started before are there.
  protocols::result<void> start_all(rank_launcher::job_data how);
  /// In the place of the process that has ended; nothing of that one is looked at after this.
  protocols::result<void> start_again(protocols::rank_id rank, protocols::generation born,
                                      protocols::cache_epoch epoch);

  const std::vector<std::unique_ptr<supervised_rank>>& all() const noexcept { return ranks_; }
  supervised_rank& at(protocols::rank_id rank) { return *ranks_.at(rank.value); }

  template <class Message>
  protocols::result<void> send(protocols::rank_id to, const Message& message) {
    note_sent(to, Message::type);
    return at(to).send(message);
  }
  void kill(protocols::rank_id rank);
  /// The supervisor lives; to be called every turn.
  void beat() noexcept;
  /// What its watchdog shows. Of a rank that was killed or has ended: nothing.
  rank_pulse::sight read_pulse(protocols::rank_id rank, protocols::time_point now);
  /// The host does not let the thread of its lanes run, so that its peers hear nothing of it; they complain again.
  bool is_starved(protocols::rank_id rank) const;
  void note_end(const supervised_rank& rank);
  /// From the record of a rank that left with a code of its own; empty where there is nothing to be read.
  std::string last_words(const supervised_rank& rank, protocols::generation born) const;

private:
  void note_spawned(protocols::rank_id rank, protocols::generation born);
  void note_sent(protocols::rank_id to, protocols::message_type type);
  rank_pulse pulse_of(protocols::rank_id rank, protocols::generation born) const;

  const protocols::cluster_plan& plan_;
  const protocols::cluster_spec& spec_;
  const job_paths& paths_;
  base::flight_recorder& record_;
  std::optional<rank_launcher> launcher_; ///< its end is the end of the death pipe
  std::vector<std::unique_ptr<supervised_rank>> ranks_;
  std::vector<rank_pulse> pulses_;
};

} // namespace troupe::cluster
