#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/first_cause_machine.hpp"
#include "protocols/cluster/life_machine.hpp"
#include "protocols/drill/drill_messages.hpp"
#include "protocols/fault.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/cluster/job_directory.hpp"
#include "runtime/cluster/spec_file.hpp"

namespace troupe::cluster {

struct supervisor_options {
  loaded_spec spec;
  std::string job;            ///< the spec's name, or another
  std::filesystem::path root; ///< from `run_root`
  /// Program and arguments of a rank; what `rank_launcher` gives it is appended.
  std::vector<std::string> rank_command;
  std::vector<protocols::inject> rules{}; ///< armed before a rank runs; only where the spec's drills are on
  bool take_signals = true;               ///< SIGINT, SIGTERM and SIGHUP drain; a second SIGINT aborts

  // On the supervisor's thread; they must not block.
  std::function<void(std::string_view line)> on_progress; ///< what is waited for, once it takes longer than `patience`
  std::function<void()> on_ready;
  std::function<void(std::string_view line)> on_log; ///< what ranks write, as "host:rank:label line"
};

/// How one rank ended.
struct rank_outcome {
  protocols::rank_id rank;
  std::string label;
  pid_t pid = 0;
  protocols::rank_end end;
  bool killed = false; ///< by the supervisor
  bool gone = false;   ///< false: the kernel has not let it go within the deadline
};

struct cluster_outcome {
  base::exit_code code = base::exit_code::done;
  std::string first_cause; ///< empty after an orderly end; the last line that a user is to see
  std::vector<rank_outcome> ranks;
};

/// Starts the ranks of a spec, steps `life_machine` with what they say and how they end, and lets none outlive it.
/// One poll loop over pidfds, log pipes, control sockets, signals and a wake-up; no other thread.
/// Contract: A11, C1, C2, C3, C6, C13, C21, C45.
class supervisor {
public:
  /// Expands the spec and takes the job's directory. Errors: config_invalid.
  static protocols::result<std::unique_ptr<supervisor>> prepare(supervisor_options options);
  virtual ~supervisor() = default;

  /// Returns when every rank has ended. The calling thread spawns the ranks, and they die with it; with
  /// `take_signals` it is to be called before other threads are started, which would get the signals instead.
  virtual cluster_outcome run() = 0;

  /// Drains, or joins the drain that was asked for before; the second call of a terminal's aborts (K17).
  /// Any thread, also before `run`.
  virtual void request_stop(std::string reason,
                            protocols::life_machine::stop_asker by = protocols::life_machine::stop_asker::program) = 0;

  /// Sends the rule to a rank, or strikes this process for `supervisor_rank`. Any thread. Errors: invalid_request.
  virtual protocols::result<void> inject(const protocols::inject& order) = 0;

  virtual const job_paths& paths() const noexcept = 0;
  virtual const protocols::cluster_plan& plan() const noexcept = 0;
};

} // namespace troupe::cluster
