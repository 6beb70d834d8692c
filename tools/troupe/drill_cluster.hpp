#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/fault.hpp"
#include "protocols/time.hpp"
#include "runtime/base/unique_fd.hpp"
#include "runtime/cluster/drill_file.hpp"
#include "runtime/cluster/job_status.hpp"

namespace troupe::tools {

/// False for a zombie: it runs no more, and its parent may be nobody's to wake.
bool is_alive(pid_t pid);

/// A rank of a later generation serves, and so does everybody else.
bool has_recovered(const std::optional<cluster::job_status>& status);

/// What the strikes file says: when something struck or was noticed, on the clock of this host.
struct strike_line {
  protocols::time_point at;
  bool notice = false; ///< the supervisor knows; otherwise it struck
  protocols::rank_id rank;
  std::string what;
};

/// One `troupe up` of a drill: a child process of its own, since the supervisor itself may be struck. Whatever it has
/// started is killed with this object.
/// Threads: one; the process must have no other when it is made.
class drill_cluster {
public:
  /// Errors: config_invalid.
  static protocols::result<drill_cluster> launch(const std::filesystem::path& spec, const std::string& job,
                                                 const std::filesystem::path& root,
                                                 const std::vector<std::string>& rules);
  drill_cluster(drill_cluster&&) = default;
  drill_cluster& operator=(drill_cluster&&) = delete;
  ~drill_cluster();

  /// Reads what it prints and sees its end. Never blocks.
  void poll();

  bool is_ready() const noexcept { return out_.find('\n') != std::string::npos; }
  bool has_ended() const noexcept { return exit_code_.has_value(); }
  /// 128 + signal when a signal ended it.
  std::optional<int> exit_code() const noexcept { return exit_code_; }
  protocols::time_point ended() const noexcept { return ended_; }
  /// What a person sees last.
  std::string last_line() const;
  const std::string& printed() const noexcept { return err_; }

  pid_t pid() const noexcept { return pid_; }
  void signal(int number) const noexcept;
  std::filesystem::path file(std::string_view name) const { return directory_ / name; }
  std::optional<cluster::job_status> status() const;
  std::vector<strike_line> strikes() const;
  /// Descriptors that have something when `look` has.
  std::vector<int> waitables() const;

  /// Processes of the job that live: the supervisor and whatever names it as its own.
  std::vector<pid_t> alive() const;
  /// Of those, the ranks.
  std::map<protocols::rank_id, pid_t> ranks() const;

private:
  drill_cluster(pid_t pid, base::unique_fd pidfd, base::unique_fd out, base::unique_fd err,
                std::filesystem::path directory);

  pid_t pid_;
  base::unique_fd pidfd_;
  base::unique_fd out_fd_;
  base::unique_fd err_fd_;
  std::filesystem::path directory_;
  std::string out_;
  std::string err_;
  std::optional<int> exit_code_;
  protocols::time_point ended_;
};

} // namespace troupe::tools
