#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "protocols/cluster/first_cause_machine.hpp"
#include "protocols/fault.hpp"
#include "runtime/base/unique_fd.hpp"

/// Starting a rank's process, seeing its end, and the promise that no rank outlives its supervisor (DESIGN decision 9):
/// a death pipe whose end of file every rank watches, and PR_SET_PDEATHSIG beside it.
namespace troupe::cluster {

/// What a rank finds open besides stdin (nothing), stdout and stderr (a pipe to the supervisor that takes what it has
/// room for and makes nobody wait): the first of the descriptors that it was started with, the next in turn after it.
inline constexpr int first_given_fd = 3;
inline constexpr std::size_t given_fds_max = 16;

/// Both ends close on exec: a child has what it is given by number and nothing else.
struct pipe_ends {
  base::unique_fd read;
  base::unique_fd write;
};
/// Errors: no_memory with errno in words (descriptors are used up).
protocols::result<pipe_ends> make_pipe();
protocols::result<std::pair<base::unique_fd, base::unique_fd>> make_stream_pair();

/// A rank's process, from its start until its end has been seen. Threads: the one that started it, which must live as
/// long as the supervisor does: PR_SET_PDEATHSIG follows the thread.
/// Contract: C13, C21, C45.
class child_process {
public:
  /// `command[0]` is the program's path, unless `program` names another to be executed under that name:
  /// "/proc/self/fd/N" where N is the number that one of `given` has there. The child gets copies of `given`, in turn
  /// from `first_given_fd` on, and nothing else.
  ///
  /// It leads a process group of its own: Ctrl-C in a terminal goes to the foreground group, and ranks must not die of
  /// it before the drain that the supervisor makes of it. Ignoring SIGINT instead would be inherited by whatever a rank
  /// starts, and would not keep SIGHUP and SIGQUIT away; a group can also be killed whole.
  /// Errors: config_invalid with path and errno in words.
  static protocols::result<child_process> spawn(const std::vector<std::string>& command, std::span<const int> given,
                                                const std::string& program = {});

  pid_t pid() const noexcept { return pid_; }
  int pidfd() const noexcept { return pidfd_.get(); }   ///< readable once the process has ended
  int output() const noexcept { return output_.get(); } ///< stdout and stderr, non-blocking

  /// To the process; SIGKILL to its whole group. Once the end was seen it does nothing.
  void signal(int number) const noexcept;

  /// The end, once; nothing while the process runs. Never blocks.
  std::optional<protocols::rank_end> reap();

private:
  child_process(pid_t pid, base::unique_fd pidfd, base::unique_fd output) noexcept
      : pid_(pid), pidfd_(std::move(pidfd)), output_(std::move(output)) {}

  pid_t pid_;
  base::unique_fd pidfd_;
  base::unique_fd output_;
  bool reaped_ = false;
};

/// What a rank calls before anything else: it dies with the supervisor's thread from here on.
/// The death pipe must be watched besides (`leave_with_supervisor`), since PR_SET_PDEATHSIG is lost when a wrapper
/// changes identity. Errors: peer_gone, the supervisor had ended already; the rank leaves with supervisor_gone.
protocols::result<void> bind_to_supervisor(int death_fd, pid_t supervisor);

/// A descriptor of the process that is readable once it has ended; none when there is no such process.
base::unique_fd open_pidfd(pid_t pid) noexcept;
/// False when the process has ended, or is another user's.
bool send_signal(const base::unique_fd& pidfd, int number) noexcept;

/// When the process was started, in the kernel's ticks since boot: with the pid, an identity that is not used again.
std::optional<std::uint64_t> start_time_of(pid_t pid);

} // namespace troupe::cluster
