#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/first_cause_machine.hpp"
#include "protocols/cluster/life_messages.hpp"
#include "protocols/cluster/parity_machine.hpp"
#include "protocols/cluster/recovery_deadlines.hpp"
#include "protocols/cluster/restart_machine.hpp"
#include "protocols/invariant.hpp"
#include "protocols/serve/client_messages.hpp"

namespace troupe::protocols {

/// Where a rank that stayed says that it could not make an edge to a newcomer.
inline constexpr std::string_view rejoin_words = "rejoin";

/// What it says then: of several newcomers it names the one that was not reached, and itself where nobody else was.
error refuse_to_rejoin(rank_id self, std::optional<rank_id> unreached, const failure& cause);

/// The supervisor's view of the whole cluster, from launch to the end of the last process.
/// Start: a step is ordered when every rank has taken the one before (joined, agreed, grouped, warm, ready), so no rank
/// enters a collective that another has not reached.
/// Recovery: when a unit of ranks is lost that may be restarted, the others drop what they had with it, what is left of
/// it is killed, and a new generation takes the same steps. Its ranks connect, those that stayed accept; the front
/// sends them work once every edge is made. A unit that is lost meanwhile joins the same recovery.
/// Fault of a recovery: an edge has two ends, and the newcomer is not always the one that fails. A rank that stayed
/// says that it has taken the order to admit; one that does not stands still. A newcomer names the rank that it cannot
/// reach. Ranks that stayed and say that no edge came are believed, but for one alone where others have got theirs.
/// Whose fault it is, its unit is lost and its restarts are counted; the newcomer is started again beside it and pays
/// nothing. The simpler rule, that whoever is not ready in time is lost, restarted well newcomers until their budget
/// ended the job.
/// End: by a drain, which has a deadline, or an abort, which has a shorter one; what is still there then is killed, and
/// that has a deadline too. Whatever ends the cluster first is what `cluster_ended` names; later faults follow from it.
/// A front that serves hears of an abort first, as the loss of every cell, so that each request that it has accepted
/// ends by a frame with the cause. A second request to stop joins the drain of the first, whoever makes it: operators
/// and units do not know of each other. Only who has pressed Ctrl-C before and presses it again wants to wait no
/// longer.
///
/// Contract: B1, B14, B20, C1, C2, C3, C13, C24, C36, C45, C46, D7, K14, K17.
/// Threads: the supervisor's own.
/// Errors of what ranks say: wrong_rank, bad_value, illegal_transition; nothing changes, and the caller hands the fault
/// back as a terminal error of that rank.
class life_machine {
public:
  enum class state {
    starting,   ///< some rank is not ready yet
    ready,      ///< serves
    recovering, ///< serves with what is left while a unit is started again
    draining,   ///< told to finish; ranks leave one by one
    aborting,   ///< told to leave at once
    killing,    ///< SIGKILL is on its way to those that did not
    ended,      ///< final
  };
  enum class outcome {
    drained, ///< every rank left in order
    aborted, ///< somebody asked for it
    rank_failed,
    unusable, ///< a rank cannot start with this spec, model or machine; `cause` says why and stands alone
    parity_mismatch,
    start_timeout,
    drain_timeout, ///< killed what had not left
  };

  enum class stop_asker {
    program,  ///< SIGTERM, SIGHUP, a call: always asks for a drain
    terminal, ///< Ctrl-C: asks for a drain, and the second time for an abort
  };

  /// To every rank that has joined and not ended.
  struct to_all {
    std::variant<roster, verdict, proceed, shutdown> message;
    bool operator==(const to_all&) const = default;
  };
  struct to_ranks {
    std::vector<rank_id> to;
    std::variant<roster, verdict, proceed, shutdown, lost, rejoin, recovered> message;
    bool operator==(const to_ranks&) const = default;
  };
  /// A line for the person who waits.
  struct report {
    std::string line;
    bool operator==(const report&) const = default;
  };
  /// A line that is shown at once.
  struct news {
    std::string line;
    bool operator==(const news&) const = default;
  };
  struct cluster_ready {
    bool operator==(const cluster_ready&) const = default;
  };
  struct kill_ranks {
    std::vector<rank_id> ranks;
    bool operator==(const kill_ranks&) const = default;
  };
  /// Their processes have ended: start new ones.
  struct restart_ranks {
    std::vector<rank_id> ranks;
    generation born;
    bool operator==(const restart_ranks&) const = default;
  };
  /// `cause` is empty when drained; the last line that a user sees otherwise.
  struct cluster_ended {
    outcome how = outcome::drained;
    std::string cause;
    bool operator==(const cluster_ended&) const = default;
  };
  using effect = std::variant<to_all, to_ranks, report, news, cluster_ready, kill_ranks, restart_ranks, cluster_ended>;
  using effects = std::vector<effect>;

  /// Every rank of `plan` has been spawned. `hosts` by rank; `plan` outlives the machine.
  life_machine(const cluster_plan& plan, const std::vector<std::string>& hosts,
               const cluster_spec::timeouts_section& timeouts, const cluster_spec::restart_section& restarts,
               time_point now);

  result<effects> on_joined(rank_id from, const joined& message);
  result<effects> on_agree(rank_id from, const agree& message, time_point now);
  result<effects> on_progress(rank_id from, const progress& message, time_point now);
  result<effects> on_rejoined(rank_id from, const rejoined& message, time_point now);
  effects on_error(rank_id from, const error& said, time_point now);
  /// The rank has broken the protocol of its control socket, which is a terminal error of that rank.
  effects on_bad_frame(rank_id from, const failure& problem, time_point now);
  /// An order could not be sent to the rank. That its socket is closed says nothing: its end follows, and says more.
  effects on_unsent(rank_id to, const failure& problem, time_point now);
  /// The rank's control socket has ended: its end follows, or it is killed. Nobody is blamed before, within bounds.
  void on_control_lost(rank_id rank, time_point now);
  /// `from` hears nothing of `of`. A complaint about a generation that has gone says nothing of its successor, and one
  /// about a rank whose lanes' thread is ready and is not let run (`starved`) nothing of that rank: it is repeated.
  effects on_complaint(rank_id from, rank_id of, generation born, bool starved, time_point now);
  /// The supervisor has seen no sign of life of the rank for so long that it is given up.
  effects on_silent(rank_id rank, duration silent_for, time_point now);
  /// After the rank's control lane has been read to its end.
  effects on_end(rank_id rank, const rank_end& end, time_point now);
  effects on_stop(stop_asker by, const std::string& reason, time_point now);
  /// The supervisor cannot go on: a process that is to take a lost rank's place cannot be started.
  effects on_unstartable(rank_id rank, const std::string& why, time_point now);
  effects on_tick(time_point now); ///< ends of processes before `now` have been told

  state current() const noexcept { return state_; }
  life_state at(rank_id rank) const { return ranks_.at(rank.value).at; }
  generation born(rank_id rank) const { return ranks_.at(rank.value).born; }
  /// Of the job, for a rank that is started now.
  cache_epoch epoch() const noexcept { return epoch_; }
  /// Whose failure was the last loss, once: for the flight recorder.
  std::optional<first_cause> take_blamed() noexcept { return std::exchange(blamed_, std::nullopt); }
  /// The start or the end of the cluster waits for this rank: it has not taken the step that was ordered (in the parity
  /// handshake: not stated its facts), or it has not left.
  bool waits_for(rank_id rank) const;

private:
  friend class keeps_invariants<life_machine>;
  void check_invariants() const;
  void show_states(state_view& view) const;
  /// Of a rank that stayed, in a recovery.
  enum class admission {
    none,    ///< not asked: it rises itself, or nobody has agreed yet
    ordered, ///< told to make its edges; it has not said that it knows
    begun,   ///< makes them
    refused, ///< could not make them, and has said so
    done,
  };

  struct rank_record {
    life_state at = life_state::spawned;
    generation born{1};
    bool ended = false;
    bool starting = true;                   ///< takes the steps of a start
    bool evicted = false;                   ///< of a lost unit: its end is no news
    bool killed = false;                    ///< SIGKILL is on its way
    std::optional<time_point> control_lost; ///< when its control socket ended
    admission admits = admission::none;
    time_point admits_by; ///< the deadline of `ordered` and `begun`; of `refused`, when it may be judged
    error refusal;        ///< what it said when it refused
    endpoint reachable;   ///< from joined on

    bool rejoining() const noexcept { return admits != admission::none && admits != admission::done; }
  };

  bool serves() const noexcept {
    return state_ == state::starting || state_ == state::ready || state_ == state::recovering;
  }
  bool all_starting_at(life_state at) const;
  bool all_ended() const;
  std::vector<rank_id> starting() const;
  std::vector<rank_id> surviving() const; ///< serve, and are not being restarted
  std::string list_waited_for() const;
  std::string all_words() const;
  void order_step(effects& out, life_state next);
  void finish_start(effects& out, time_point now);
  effects lose(const first_cause& cause, time_point now);
  kill_ranks order_to_kill(std::vector<rank_id> ranks);
  void kill_unreachable(effects& out, time_point now);
  effects judge_deadlines(time_point now);
  effects lose_late(time_point now);
  effects lose_unadmitting(time_point now);
  effects validate_refusals(time_point now);
  std::optional<rank_id> blamed_for(rank_id from, const error& said);
  void begin_recovery(effects& out, const std::vector<rank_id>& unit, const first_cause& cause, time_point now);
  void restart_if_gone(effects& out, time_point now);
  void begin_drain(effects& out, const std::string& reason, time_point now);
  /// `blamed`: whose failure it is, when it is one rank's.
  void begin_abort(effects& out, outcome how, std::string cause, time_point now, std::optional<rank_id> blamed = {});
  bool front_has_requests() const;
  void order_front_to_leave(effects& out, time_point now);
  void begin_kill(effects& out, time_point now);
  void end(effects& out);

  const cluster_plan& plan_;
  std::vector<std::string> hosts_;
  cluster_spec::timeouts_section timeouts_;
  recovery_deadlines waits_;
  restart_machine restarts_;
  state state_ = state::starting;
  std::vector<rank_record> ranks_;
  parity_machine parity_;
  first_cause_machine causes_;
  life_state ordered_ = life_state::joined; ///< the step that starting ranks may take
  time_point deadline_;                     ///< of the present state; ready has none
  generation newest_{1};                    ///< of the whole job: each recovery draws the next
  cache_epoch epoch_ = first_epoch;         ///< of the whole job: each loss of ranks begins the next
  time_point lost_at_;                      ///< begin of the recovery
  std::optional<rank_id> unreached_;        ///< cannot be restarted, and a newcomer has said that it cannot reach it
  std::optional<shutdown> order_;           ///< the latest; also for a rank that joins after it
  bool terminal_asked_ = false;             ///< for the drain
  std::optional<time_point> front_leaves_;  ///< in an abort that it has been told of: when it is ordered to leave
  outcome how_ = outcome::drained;
  std::string cause_;
  std::optional<first_cause> blamed_;
};

} // namespace troupe::protocols
