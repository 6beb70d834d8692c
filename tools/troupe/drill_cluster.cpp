#include "tools/troupe/drill_cluster.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/base/clock.hpp"
#include "runtime/cluster/output_lines.hpp"
#include "runtime/cluster/process.hpp"

namespace troupe::tools {

using namespace protocols;

namespace {

constexpr std::size_t output_turn_bytes = 1 << 20;

std::string content_of(const std::filesystem::path& file) {
  std::ifstream in{file, std::ios::binary};
  std::ostringstream out; // a stream iterator would answer a process that ends meanwhile with an exception
  out << in.rdbuf();
  return out.str();
}

/// The living process of each rank, by the arguments that the supervisor with this pid gives its ranks.
std::vector<std::pair<rank_id, pid_t>> ranks_of(pid_t supervisor) {
  const auto marker = std::string{"--supervisor-pid"} + '\0' + std::to_string(supervisor) + '\0';
  const auto number = std::string{"--rank"} + '\0';
  std::vector<std::pair<rank_id, pid_t>> found;
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc", problem}) {
    const auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos)
      continue;
    const auto arguments = content_of(entry.path() / "cmdline");
    const auto rank = arguments.find(number);
    if (rank == std::string::npos || arguments.find(marker) == std::string::npos)
      continue;
    if (const auto pid = static_cast<pid_t>(std::stol(name)); is_alive(pid))
      found.emplace_back(
          rank_id{static_cast<std::uint32_t>(std::strtoul(arguments.c_str() + rank + number.size(), nullptr, 10))},
          pid);
  }
  return found;
}

[[noreturn]] void become(const std::vector<std::string>& command, pid_t parent, int out, int err) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent)
    ::_exit(127);
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  std::vector<char*> argv;
  for (const auto& each : command)
    argv.push_back(const_cast<char*>(each.c_str()));
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

} // namespace

bool is_alive(pid_t pid) {
  const auto stat = content_of(std::filesystem::path{"/proc"} / std::to_string(pid) / "stat");
  const auto state = stat.rfind(") ");
  return state != std::string::npos && stat[state + 2] != 'Z' && stat[state + 2] != 'X';
}

bool has_recovered(const std::optional<cluster::job_status>& status) {
  return status && status->state == "ready" &&
         std::ranges::any_of(status->ranks, [](const auto& rank) { return rank.generation > 1; }) &&
         std::ranges::all_of(status->ranks, [](const auto& rank) { return rank.state == "ready"; });
}

drill_cluster::drill_cluster(pid_t pid, base::unique_fd pidfd, base::unique_fd out, base::unique_fd err,
                             std::filesystem::path directory)
    : pid_(pid), pidfd_(std::move(pidfd)), out_fd_(std::move(out)), err_fd_(std::move(err)),
      directory_(std::move(directory)) {}

result<drill_cluster> drill_cluster::launch(const std::filesystem::path& spec, const std::string& job,
                                            const std::filesystem::path& root, const std::vector<std::string>& rules) {
  std::error_code problem;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", problem);
  auto out = cluster::make_pipe();
  auto err = cluster::make_pipe();
  if (problem || !out || !err)
    return fail(fault::config_invalid, "cannot start a drill: " + problem.message());
  std::vector<std::string> command{self.string(), "up",          spec.string(), "--job",  job,
                                   "--run-dir",   root.string(), "--json",      "--http", "off"};
  for (const auto& rule : rules)
    command.insert(command.end(), {"--inject", rule});

  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0)
    return fail(fault::config_invalid, std::string{"cannot start a drill: "} + std::strerror(errno));
  if (pid == 0)
    become(command, parent, out->write.get(), err->write.get());
  for (const int fd : {out->read.get(), err->read.get()})
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  return drill_cluster{pid, cluster::open_pidfd(pid), std::move(out->read), std::move(err->read), root / job};
}

drill_cluster::~drill_cluster() {
  if (!pidfd_) // moved from
    return;
  for (const auto pid : alive())
    ::kill(pid, SIGKILL);
  if (!exit_code_)
    ::waitpid(pid_, nullptr, 0);
}

void drill_cluster::poll() {
  const auto keep = [](std::string& to) { return [&to](std::string_view bytes) { to += bytes; }; };
  if (out_fd_ && !cluster::read_available(out_fd_.get(), output_turn_bytes, keep(out_)))
    out_fd_.reset();
  if (err_fd_ && !cluster::read_available(err_fd_.get(), output_turn_bytes, keep(err_)))
    err_fd_.reset();
  int how = 0;
  if (exit_code_ || ::waitpid(pid_, &how, WNOHANG) != pid_)
    return;
  ended_ = base::now();
  exit_code_ = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
  poll();
}

std::string drill_cluster::last_line() const {
  const auto end = err_.find_last_not_of('\n');
  if (end == std::string::npos)
    return {};
  const auto begin = err_.rfind('\n', end);
  return err_.substr(begin == std::string::npos ? 0 : begin + 1,
                     end - (begin == std::string::npos ? 0 : begin + 1) + 1);
}

void drill_cluster::signal(int number) const noexcept {
  if (!exit_code_)
    ::kill(pid_, number);
}

std::optional<cluster::job_status> drill_cluster::status() const {
  auto status = cluster::parse_job_status(content_of(file("status.json")));
  return status ? std::optional{std::move(*status)} : std::nullopt;
}

std::vector<strike_line> drill_cluster::strikes() const {
  std::vector<strike_line> lines;
  std::istringstream in{content_of(file("strikes"))};
  for (std::string text; std::getline(in, text);) {
    const auto line = nlohmann::json::parse(text, nullptr, false);
    if (line.is_discarded())
      continue;
    const bool notice = line.contains("noticed");
    lines.push_back({.at = time_point{duration{line.value("at_ns", std::int64_t{0})}},
                     .notice = notice,
                     .rank = rank_id{line.value(notice ? "noticed" : "struck", std::uint32_t{0})},
                     .what = line.value("what", "")});
  }
  return lines;
}

std::vector<int> drill_cluster::waitables() const {
  std::vector<int> fds;
  for (const auto* fd : {&pidfd_, &out_fd_, &err_fd_})
    if (*fd && !(fd == &pidfd_ && exit_code_))
      fds.push_back(fd->get());
  return fds;
}

std::vector<pid_t> drill_cluster::alive() const {
  std::vector<pid_t> found;
  if (!exit_code_ && is_alive(pid_))
    found.push_back(pid_);
  for (const auto& [rank, pid] : ranks_of(pid_))
    found.push_back(pid);
  return found;
}

std::map<rank_id, pid_t> drill_cluster::ranks() const {
  const auto found = ranks_of(pid_);
  return {found.begin(), found.end()};
}

} // namespace troupe::tools
