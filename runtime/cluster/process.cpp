#include "runtime/cluster/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "runtime/base/assert.hpp"
#include "runtime/base/exit_code.hpp"

extern char** environ;

namespace troupe::cluster {
namespace {

using protocols::fail;
using protocols::fault;
using protocols::rank_end;
using protocols::result;

static_assert(protocols::exit_supervisor_gone == static_cast<int>(base::exit_code::supervisor_gone));
static_assert(protocols::exit_peer_gone == static_cast<int>(base::exit_code::peer_gone));

/// The lowest number for a descriptor that is to be copied: above all targets, so that no copy overwrites a source.
constexpr int source_fd_least = first_given_fd + static_cast<int>(given_fds_max);

result<base::unique_fd> lifted(int fd) {
  base::unique_fd copy{::fcntl(fd, F_DUPFD_CLOEXEC, source_fd_least)};
  if (!copy)
    return fail(fault::no_memory, fmt::format("cannot copy a descriptor: {}", std::strerror(errno)));
  return copy;
}

struct spawn_actions {
  posix_spawn_file_actions_t value;
  spawn_actions() { posix_spawn_file_actions_init(&value); }
  ~spawn_actions() { posix_spawn_file_actions_destroy(&value); }
  spawn_actions(const spawn_actions&) = delete;
  spawn_actions& operator=(const spawn_actions&) = delete;
};

struct spawn_attributes {
  posix_spawnattr_t value;
  spawn_attributes() { posix_spawnattr_init(&value); }
  ~spawn_attributes() { posix_spawnattr_destroy(&value); }
  spawn_attributes(const spawn_attributes&) = delete;
  spawn_attributes& operator=(const spawn_attributes&) = delete;
};

/// "parity", "executor": as the table of exit codes calls it.
std::string words_of_exit(int code) {
  switch (static_cast<base::exit_code>(code)) {
  case base::exit_code::done:
    return "done";
  case base::exit_code::failed:
    return "failed";
  case base::exit_code::usage:
    return "usage";
  case base::exit_code::config:
    return "config";
  case base::exit_code::not_running:
  case base::exit_code::refused:
  case base::exit_code::rank_failed:
  case base::exit_code::start_timeout:
  case base::exit_code::drain_timeout:
  case base::exit_code::interrupted:
    return {}; // of commands, not of ranks
  case base::exit_code::invariant:
    return "broken invariant";
  case base::exit_code::supervisor_gone:
    return "supervisor gone";
  case base::exit_code::peer_gone:
    return "peer gone";
  case base::exit_code::parity:
    return "parity";
  case base::exit_code::executor:
    return "executor";
  case base::exit_code::watchdog:
    return "watchdog";
  }
  return {};
}

} // namespace

result<pipe_ends> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return fail(fault::no_memory, fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  return pipe_ends{base::unique_fd{ends[0]}, base::unique_fd{ends[1]}};
}

result<std::pair<base::unique_fd, base::unique_fd>> make_stream_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return fail(fault::no_memory, fmt::format("cannot make a socket pair: {}", std::strerror(errno)));
  return std::pair{base::unique_fd{ends[0]}, base::unique_fd{ends[1]}};
}

result<child_process> child_process::spawn(const std::vector<std::string>& command, std::span<const int> given,
                                           const std::string& program) {
  TROUPE_ASSERT("descriptors of a rank", given.size() <= given_fds_max);
  auto output = make_pipe();
  if (!output)
    return tl::unexpected{output.error()};
  // A rank must not wait for a supervisor that does not read, nor what it has started (K6).
  ::fcntl(output->write.get(), F_SETFL, O_NONBLOCK);
  std::vector<int> wanted{output->write.get()};
  wanted.insert(wanted.end(), given.begin(), given.end());
  std::vector<base::unique_fd> sources;
  for (const int fd : wanted) {
    auto source = lifted(fd);
    if (!source)
      return tl::unexpected{source.error()};
    sources.push_back(*std::move(source));
  }

  spawn_actions actions;
  posix_spawn_file_actions_addopen(&actions.value, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions.value, sources[0].get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions.value, sources[0].get(), STDERR_FILENO);
  for (std::size_t i = 0; i < given.size(); ++i)
    posix_spawn_file_actions_adddup2(&actions.value, sources[1 + i].get(), first_given_fd + static_cast<int>(i));
  // A descriptor that somebody opened without close-on-exec could be another rank's death pipe.
  posix_spawn_file_actions_addclosefrom_np(&actions.value, first_given_fd + static_cast<int>(given.size()));

  spawn_attributes attributes;
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setflags(&attributes.value, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup(&attributes.value, 0);
  posix_spawnattr_setsigmask(&attributes.value, &none); // the supervisor blocks what it reads from a signalfd
  posix_spawnattr_setsigdefault(&attributes.value, &all);

  std::vector<char*> arguments;
  for (const auto& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);

  pid_t pid = 0;
  const char* const path = program.empty() ? arguments[0] : program.c_str();
  const int error = ::posix_spawn(&pid, path, &actions.value, &attributes.value, arguments.data(), environ);
  if (error != 0)
    return fail(fault::config_invalid, fmt::format("cannot start {}: {}", command[0], std::strerror(error)));

  // The pid is ours until we reap it, so this cannot name another process.
  auto pidfd = open_pidfd(pid);
  if (!pidfd) {
    const int problem = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return fail(fault::no_memory, fmt::format("cannot watch process {}: {}", pid, std::strerror(problem)));
  }
  ::fcntl(output->read.get(), F_SETFL, O_NONBLOCK);
  return child_process{pid, std::move(pidfd), std::move(output->read)};
}

void child_process::signal(int number) const noexcept {
  if (reaped_)
    return;
  send_signal(pidfd_, number);
  if (number == SIGKILL)
    ::kill(-pid_, SIGKILL); // what the rank itself has started
}

std::optional<rank_end> child_process::reap() {
  siginfo_t info{};
  if (reaped_ || ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid == 0)
    return std::nullopt;
  ::kill(-pid_, SIGKILL); // while the zombie keeps the group's number ours
  TROUPE_ASSERT("one reaper", ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) == 0);
  reaped_ = true;
  if (info.si_code == CLD_EXITED)
    return rank_end{rank_end::kind::exited, info.si_status, words_of_exit(info.si_status)};
  return rank_end{rank_end::kind::signalled, info.si_status, ::strsignal(info.si_status)};
}

result<void> bind_to_supervisor(int death_fd, pid_t supervisor) {
  TROUPE_ASSERT("no orphan", ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
  // It may have died before the line above.
  if (::getppid() != supervisor)
    return fail(fault::peer_gone, fmt::format("the supervisor (process {}) has ended", supervisor));
  pollfd death{death_fd, POLLIN, 0};
  if (::poll(&death, 1, 0) != 0)
    return fail(fault::peer_gone, "the supervisor's death pipe has ended");
  return {};
}

// By number: the header of glibc 2.36 declares these without C linkage.
base::unique_fd open_pidfd(pid_t pid) noexcept {
  return base::unique_fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
}

bool send_signal(const base::unique_fd& pidfd, int number) noexcept {
  return ::syscall(SYS_pidfd_send_signal, pidfd.get(), number, nullptr, 0) == 0;
}

std::optional<std::uint64_t> start_time_of(pid_t pid) {
  std::ifstream file{fmt::format("/proc/{}/stat", pid)};
  std::string line;
  std::getline(file, line);
  const auto name_end = line.rfind(')'); // the name may hold spaces and parentheses
  if (name_end == line.npos)
    return std::nullopt;
  std::istringstream rest{line.substr(name_end + 1)};
  std::string field; // the third field, the state, comes next; the start time is the 22nd
  for (int number = 3; number <= 22; ++number)
    rest >> field;
  std::uint64_t ticks = 0;
  const bool whole = std::from_chars(field.data(), field.data() + field.size(), ticks).ec == std::errc{};
  return rest && whole ? std::optional{ticks} : std::nullopt;
}

} // namespace troupe::cluster
