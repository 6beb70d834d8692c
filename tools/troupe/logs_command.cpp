#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "runtime/base/unique_fd.hpp"
#include "runtime/cluster/log_file.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/job.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {
namespace {

struct logs_options {
  job_options job;
  std::optional<std::uint32_t> rank;
  bool follow = false;
};

/// What the file has beyond what was read. False: stdout takes nothing more.
bool copy_rest(int file) {
  std::array<char, 64 * 1024> buffer;
  for (auto got = ::read(file, buffer.data(), buffer.size()); got > 0; got = ::read(file, buffer.data(), buffer.size()))
    base::standard_output().put({buffer.data(), static_cast<std::size_t>(got)});
  return base::standard_output().problem() == 0;
}

base::unique_fd opened(const std::filesystem::path& path) {
  return base::unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
}

bool same_file(int one, int other) {
  struct stat first {};
  struct stat second {};
  return ::fstat(one, &first) == 0 && ::fstat(other, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

/// The same of a log: once `file` was full, also what now stands at its path.
bool copy_news(const std::filesystem::path& path, base::unique_fd& file) {
  if (!copy_rest(file.get()))
    return false;
  auto next = opened(path);
  if (!next || same_file(next.get(), file.get()))
    return true;
  const bool whole = copy_rest(file.get()); // written between the two looks
  file = std::move(next);
  return whole && copy_rest(file.get());
}

/// Copies what is appended until the job has ended (its supervisor writes the logs) or stdout is closed.
void follow(const cluster::job_record& job, const std::filesystem::path& path, base::unique_fd& file) {
  const base::unique_fd changes{::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)};
  const bool watched =
      changes && ::inotify_add_watch(changes.get(), path.parent_path().c_str(), IN_MODIFY | IN_CREATE) >= 0;
  const auto supervisor = cluster::open_supervisor(job);
  std::array<pollfd, 2> fds{pollfd{.fd = supervisor ? supervisor->get() : -1, .events = POLLIN, .revents = 0},
                            pollfd{.fd = changes.get(), .events = POLLIN, .revents = 0}};
  // The watch came after the first copy: look once more before waiting for the next change.
  while (copy_news(path, file) && watched && supervisor && fds[0].revents == 0) {
    if (::poll(fds.data(), fds.size(), -1) < 0)
      return;
    std::array<char, 4096> events;
    while (::read(changes.get(), events.data(), events.size()) > 0) {
    }
  }
}

int logs(const logs_options& options) {
  const auto job = choose_job(options.job, true);
  if (!job)
    return complain(exit_code_of(job.error().code), job.error().what);
  const auto path = options.rank ? job->paths.log_of(protocols::rank_id{*options.rank}) : job->paths.log_of_all();
  auto file = opened(path);
  if (!file) {
    const int problem = errno;
    const auto known = plan_of(*job);
    const auto ranks = known ? fmt::format("; ranks are 0 to {}", known->plan.ranks.size() - 1) : std::string{};
    return complain(base::exit_code::failed,
                    fmt::format("job {}: {}: {}{}", job->name, path.string(), std::strerror(problem), ranks));
  }
  const auto old = opened(cluster::old_log(path));
  const bool has_old = old && !same_file(old.get(), file.get()); // else it was full just now
  if ((!has_old || copy_rest(old.get())) && copy_rest(file.get()) && options.follow)
    follow(*job, path, file);
  return static_cast<int>(base::exit_code::done);
}

} // namespace

void add_logs(CLI::App& troupe, action& chosen) {
  auto* command = troupe.add_subcommand("logs", "print what the ranks of a job have written");
  auto options = std::make_shared<logs_options>();
  add_job_options(*command, options->job);
  command->add_option("--rank", options->rank, "of this rank alone")->type_name("N");
  command->add_flag("--follow,-f", options->follow, "go on until the job has ended");
  command->footer(R"(Examples:
  troupe logs
  troupe logs --job reader --rank 3 --follow

A job that has ended keeps its logs until the next one of its name; name it with --job.
Exit codes: 0 done, 1 no such log, 2 usage, 4 no such job.)");
  command->callback([options, &chosen] { chosen = [options] { return logs(*options); }; });
}

} // namespace troupe::tools
