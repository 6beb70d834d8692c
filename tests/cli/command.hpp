#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/unique_fd.hpp"

/// Drives the built command as a user would: a process, its arguments, what it prints, how it ends.
namespace troupe::tests {

using clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

/// What has not happened by then will not: far above what a loaded machine takes, below the time that CTest gives a
/// case. How soon something is over is judged by series and benchmarks.
inline constexpr std::chrono::milliseconds patience = 150s;

struct command_end {
  int exit_code = -1;  ///< 128 + signal when a signal ended it
  bool in_time = true; ///< false: it was killed at the deadline
  std::string out;
  std::string err;
};

/// One run of a program; killed and reaped when it goes out of scope.
class command {
public:
  /// `files_max`: descriptors that it and its ranks may have.
  explicit command(std::vector<std::string> arguments, std::vector<std::string> environment = {},
                   rlim_t files_max = RLIM_INFINITY, std::string program = TROUPE_BINARY_DIR "/troupe") {
    // Tests run side by side: a job listens for HTTP only where a case says so.
    if (!arguments.empty() && arguments.front() == "up" && std::ranges::find(arguments, "--http") == arguments.end())
      arguments.insert(arguments.end(), {"--http", "off"});
    arguments.insert(arguments.begin(), std::move(program));
    int out[2];
    int err[2];
    if (::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0)
      std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::setpgid(0, 0);
      const int nothing = ::open("/dev/null", O_RDONLY);
      ::dup2(nothing, STDIN_FILENO);
      ::dup2(out[1], STDOUT_FILENO);
      ::dup2(err[1], STDERR_FILENO);
      if (const rlimit files{files_max, files_max}; files_max != RLIM_INFINITY)
        ::setrlimit(RLIMIT_NOFILE, &files);
      for (const auto& setting : environment)
        ::putenv(const_cast<char*>(setting.c_str()));
      std::vector<char*> argv;
      for (auto& argument : arguments)
        argv.push_back(argument.data());
      argv.push_back(nullptr);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    out_ = base::unique_fd{out[0]};
    err_ = base::unique_fd{err[0]};
    ::close(out[1]);
    ::close(err[1]);
  }
  command(const command&) = delete;
  command& operator=(const command&) = delete;
  ~command() {
    if (!reaped_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  pid_t pid() const noexcept { return pid_; }
  const std::string& out() const noexcept { return end_.out; }
  const std::string& err() const noexcept { return end_.err; }
  void signal(int number) const { ::kill(pid_, number); }

  /// Reads on until `wanted` stands in what it printed. False: the deadline passed, or it ended without.
  bool prints(std::string_view wanted, std::chrono::milliseconds within = 30s) {
    const auto deadline = clock::now() + std::max(within, patience);
    while (end_.out.find(wanted) == std::string::npos && end_.err.find(wanted) == std::string::npos)
      if (!read_more(deadline))
        return false;
    return true;
  }

  /// Reads to the end and reaps; kills at the deadline.
  command_end finish(std::chrono::milliseconds within = 30s) {
    const auto deadline = clock::now() + std::max(within, patience);
    while (read_more(deadline)) {
    }
    int status = 0;
    while (::waitpid(pid_, &status, WNOHANG) == 0) { // its output has ended, so this is short
      if (clock::now() >= deadline) {
        end_.in_time = false;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, &status, 0);
        break;
      }
      std::this_thread::yield();
    }
    reaped_ = true;
    end_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return end_;
  }

private:
  /// False at the end of both streams and at the deadline.
  bool read_more(clock::time_point deadline) {
    std::array<pollfd, 2> fds{pollfd{.fd = out_.get(), .events = POLLIN, .revents = 0},
                              pollfd{.fd = err_.get(), .events = POLLIN, .revents = 0}};
    if (!out_ && !err_)
      return false;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
    if (left <= 0 || ::poll(fds.data(), fds.size(), static_cast<int>(left)) <= 0)
      return false;
    take(fds[0], out_, end_.out);
    take(fds[1], err_, end_.err);
    return true;
  }
  static void take(const pollfd& ready, base::unique_fd& from, std::string& to) {
    if (ready.revents == 0)
      return;
    std::array<char, 4096> buffer;
    const auto got = ::read(from.get(), buffer.data(), buffer.size());
    if (got > 0)
      to.append(buffer.data(), static_cast<std::size_t>(got));
    else
      from.reset();
  }

  pid_t pid_ = -1;
  bool reaped_ = false;
  base::unique_fd out_;
  base::unique_fd err_;
  command_end end_;
};

inline command_end run_troupe(std::vector<std::string> arguments, std::chrono::milliseconds within = 30s) {
  return command{std::move(arguments)}.finish(within);
}

inline std::size_t lines_in(std::string_view text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

inline bool has(std::string_view text, std::string_view wanted) {
  return text.find(wanted) != std::string_view::npos;
}

/// A folder of its own for each case, gone with it.
class scratch_folder {
public:
  scratch_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "troupe-cli-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr)
      std::abort();
    path_ = name;
  }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  ~scratch_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }
  std::string write(std::string_view name, std::string_view text) const {
    std::ofstream{path_ / name, std::ios::binary} << text;
    return *this / name;
  }
  /// What a job of the case is called: small letters and digits, and unique on this machine while the case runs.
  std::string job() const { return job_; }

private:
  static std::string next_job() {
    static int made = 0;
    return "cli-" + std::to_string(::getpid()) + "-" + std::to_string(++made);
  }
  std::filesystem::path path_;
  std::string job_ = next_job();
};

/// What a file of /proc says; empty when its process ends meanwhile, which a stream iterator answers with an exception.
inline std::string content_of(const std::filesystem::path& file) {
  std::ifstream in{file, std::ios::binary};
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

/// A living process (a zombie is dead) whose arguments contain `marker`.
inline std::vector<pid_t> processes_with(const std::string& marker) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc"}) {
    const auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos)
      continue;
    auto arguments = content_of(entry.path() / "cmdline");
    std::replace(arguments.begin(), arguments.end(), '\0', ' ');
    const auto stat = content_of(entry.path() / "stat");
    const auto state = stat.rfind(") ");
    if (state != std::string::npos && stat[state + 2] != 'Z' && stat[state + 2] != 'X' && has(arguments, marker))
      found.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return found;
}

/// The ranks that the supervisor with this pid has started.
inline std::vector<pid_t> ranks_of(pid_t supervisor) {
  return processes_with(" --supervisor-pid " + std::to_string(supervisor) + " ");
}

/// Looks again and again until `condition` holds; the kernel tells nobody that a stranger's child has died.
template <class Condition>
bool holds_within(std::chrono::milliseconds limit, Condition condition) {
  const auto deadline = clock::now() + std::max(limit, patience);
  while (!condition()) {
    if (clock::now() >= deadline)
      return false;
    ::poll(nullptr, 0, 5);
  }
  return true;
}

inline std::string reader_model() {
  return TROUPE_SOURCE_DIR "/deploy/models/reader";
}
inline std::string golden(std::string_view name) {
  return std::string{TROUPE_SOURCE_DIR "/tests/golden/"} + std::string{name};
}

/// A spec for the reader model with these pools (JSON) and further members, begun by a comma.
inline std::string reader_spec(std::string_view pools, std::string_view more = "") {
  return R"({"troupe": 1, "name": "reader", "program": "serve", "model": {"path": ")" + reader_model() +
         R"("}, "pools": )" + std::string{pools} + std::string{more} + "}";
}
inline std::string_view one_rank() {
  return R"({"one": {"role": "all"}})";
}

} // namespace troupe::tests
