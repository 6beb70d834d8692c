// Decides outside protocols: the wait itself, for a process

#include "runtime/cluster/job_directory.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <regex>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "fabric/listening_socket.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/line_writer.hpp"
#include "runtime/base/regular_file.hpp"
#include "runtime/cluster/json_text.hpp"
#include "runtime/cluster/process.hpp"
#include "runtime/cluster/spec_keys.hpp"

namespace troupe::cluster {
namespace {

namespace fs = std::filesystem;
using protocols::fail;
using protocols::fault;
using protocols::result;

constexpr std::size_t socket_path_max = sizeof(sockaddr_un{}.sun_path) - 1;

tl::unexpected<protocols::failure> invalid(std::string what) {
  return fail(fault::config_invalid, std::move(what));
}

/// Makes a directory of ours, or checks the one that is there.
result<void> own_directory(const fs::path& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return invalid(fmt::format("cannot make the run directory {}: {}", path.string(), std::strerror(errno)));
  struct stat is {};
  if (::lstat(path.c_str(), &is) != 0)
    return invalid(fmt::format("cannot use the run directory {}: {}", path.string(), std::strerror(errno)));
  if (S_ISLNK(is.st_mode)) // its owner would choose where the sockets go
    return invalid(fmt::format("the run directory {} is a symbolic link; name the directory itself", path.string()));
  if (!S_ISDIR(is.st_mode))
    return invalid(fmt::format("the run directory {} is no directory", path.string()));
  if (is.st_uid != ::geteuid())
    return invalid(
        fmt::format("the run directory {} belongs to user {}, not to {}", path.string(), is.st_uid, ::geteuid()));
  if ((is.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return invalid(fmt::format("others may write to the run directory {} (mode {:04o}); chmod 0700 it", path.string(),
                               is.st_mode & 07777));
  if (::access(path.c_str(), W_OK | X_OK) != 0)
    return invalid(fmt::format("cannot write to the run directory {}: {}", path.string(), std::strerror(errno)));
  return {};
}

struct flock whole_file(short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

bool is_locked(const fs::path& lock_file) {
  const base::unique_fd fd{::open(lock_file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
  auto lock = whole_file(F_WRLCK);
  return fd && ::fcntl(fd.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/// Nothing where it cannot be read: a directory may be damaged, and what it tells is for people to look at.
std::string text_of(const fs::path& file) {
  return base::read_regular(file, job_file_bytes_max).value_or(std::string{});
}

/// Whole or not at all: written beside it, then renamed over it.
result<void> replace_file(const fs::path& file, std::string_view text) {
  auto fresh = file;
  fresh += ".new";
  const base::unique_fd out{::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)};
  int why = out ? base::write_all(out.get(), text, base::when_full::stop).error : errno;
  if (why == 0 && ::rename(fresh.c_str(), file.c_str()) != 0)
    why = errno;
  if (why != 0)
    return invalid(fmt::format("cannot write {}: {}", file.string(), std::strerror(why)));
  return {};
}

/// For a person to read.
std::string full_path(const fs::path& file) {
  std::error_code unknown;
  const auto full = fs::absolute(file, unknown);
  return unknown ? file.string() : full.lexically_normal().string();
}

job_record read_record(const fs::path& directory) {
  job_record job;
  job.name = directory.filename().string();
  job.paths = {directory};
  job.running = is_locked(job.paths.file("lock"));
  job.status = text_of(job.paths.file("status.json"));
  // A supervisor that has just taken the lock has not written it yet.
  const auto json = nlohmann::json::parse(text_of(job.paths.file("job.json")), nullptr, false);
  try {
    job.supervisor_pid = json.value("supervisor_pid", pid_t{0});
    job.supervisor_start = json.value("supervisor_start", std::uint64_t{0});
    job.spec_path = json.value("spec", "");
    job.started = json.value("started", "");
  } catch (const nlohmann::json::exception&) { // no object, or damaged: the library's only way to say it
  }
  return job;
}

/// A job's directory is cleared when the job starts, so one that is no job's is not taken.
result<void> check_is_of_a_job(const fs::path& directory) {
  std::error_code problem;
  const bool empty = fs::is_empty(directory, problem);
  if (problem)
    return invalid(fmt::format("cannot read {}: {}", directory.string(), problem.message()));
  if (empty || fs::is_regular_file(fs::symlink_status(directory / "lock", problem)))
    return {};
  return invalid(
      fmt::format("{} holds files and is no job's: it has no file lock. A job's directory is cleared when the job "
                  "starts; use another --run-dir or name",
                  full_path(directory)));
}

result<void> clear_leftovers(const fs::path& directory) {
  std::error_code problem;
  for (fs::directory_iterator each{directory, problem}, end; !problem && each != end; each.increment(problem))
    if (each->path().filename() != "lock")
      fs::remove_all(each->path(), problem);
  for (const auto* const name : {"logs", "flight"})
    if (!problem)
      fs::create_directory(directory / name, problem);
  if (problem)
    return invalid(fmt::format("cannot clear {}: {}", directory.string(), problem.message()));
  return {};
}

} // namespace

result<fs::path> run_root(const std::optional<fs::path>& asked) {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  const auto root = asked                                 ? *asked
                    : runtime != nullptr && *runtime != 0 ? fs::path{runtime} / "troupe"
                                                          : fs::path{fmt::format("/tmp/troupe-{}", ::geteuid())};
  std::error_code problem; // the folder that we are in may be gone
  auto absolute = fs::absolute(root, problem).lexically_normal();
  if (!absolute.has_filename() && absolute.has_relative_path())
    absolute = absolute.parent_path(); // "link/" is what the link leads to
  if (problem)
    return invalid(fmt::format("cannot use the run directory {}: {}", root.string(), problem.message()));
  return own_directory(absolute).map([&] { return absolute; });
}

fs::path job_paths::control_socket(protocols::rank_id rank) const {
  return directory / fmt::format("r{}.sock", rank.value);
}
fs::path job_paths::transfer_socket(protocols::rank_id rank) const {
  return directory / fmt::format("t{}.sock", rank.value);
}
fs::path job_paths::log_of(protocols::rank_id rank) const {
  return directory / "logs" / fmt::format("{}.log", rank.value);
}

result<job_directory> job_directory::take(const fs::path& root, const std::string& job, const loaded_spec& spec,
                                          std::uint32_t ranks) {
  if (!std::regex_match(job, std::regex{std::string{job_name_pattern}}))
    return invalid(fmt::format("a job's name is {}, not '{}'", job_name_in_words, job));
  const job_paths paths{root / job};
  const auto longest = fabric::listening_socket::unnamed_suffix.size() +
                       std::max({paths.front_socket().string().size(), paths.file("control.sock").string().size(),
                                 paths.control_socket(protocols::rank_id{ranks}).string().size()});
  if (longest > socket_path_max)
    return invalid(fmt::format("{} makes socket paths of {} characters, at most {} are possible; use a shorter "
                               "--run-dir or name",
                               paths.directory.string(), longest, socket_path_max));
  if (const auto own = own_directory(paths.directory).and_then([&] { return check_is_of_a_job(paths.directory); });
      !own)
    return tl::unexpected{own.error()};

  const auto lock_file = paths.file("lock");
  base::unique_fd lock{::open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!lock)
    return invalid(fmt::format("cannot open {}: {}", lock_file.string(), std::strerror(errno)));
  auto whole = whole_file(F_WRLCK);
  if (::fcntl(lock.get(), F_OFD_SETLK, &whole) != 0) {
    if (errno != EAGAIN && errno != EACCES)
      return invalid(fmt::format("cannot lock {}: {}", lock_file.string(), std::strerror(errno)));
    const auto other = read_record(paths.directory);
    return invalid(fmt::format("job '{}' runs already: process {} since {}, from {}", job, other.supervisor_pid,
                               other.started, other.spec_path));
  }
  if (const auto cleared = clear_leftovers(paths.directory); !cleared)
    return tl::unexpected{cleared.error()};

  const nlohmann::ordered_json record{
      {"name", job},
      {"supervisor_pid", ::getpid()},
      {"supervisor_start", start_time_of(::getpid()).value_or(0)},
      {"spec", full_path(spec.file)},
      {"spec_digest", spec.digest},
      {"started", fmt::format("{:%Y-%m-%dT%H:%M:%S}Z",
                              fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())))}};
  for (const auto& [name, text] : {std::pair{"spec.json", spec.effective_json}, {"job.json", text_of(record, 2)}})
    if (const auto written = replace_file(paths.file(name), text + "\n"); !written)
      return tl::unexpected{written.error()};
  return job_directory{paths, std::move(lock)};
}

result<void> job_directory::write_status(std::string_view json) const {
  return replace_file(paths_.file("status.json"), json);
}

result<std::vector<job_record>> list_jobs(const fs::path& root) {
  std::error_code problem;
  std::vector<job_record> jobs;
  for (fs::directory_iterator each{root, problem}, end; !problem && each != end; each.increment(problem)) {
    std::error_code absent;
    if (fs::exists(each->path() / "lock", absent))
      jobs.push_back(read_record(each->path()));
  }
  if (problem)
    return invalid(fmt::format("cannot read the run directory {}: {}", root.string(), problem.message()));
  std::ranges::sort(jobs, {}, &job_record::name);
  return jobs;
}

result<job_record> find_job(const fs::path& root, const std::string& job) {
  auto jobs = list_jobs(root);
  if (!jobs)
    return tl::unexpected{jobs.error()};
  std::string names;
  for (auto& one : *jobs) {
    if (one.name == job)
      return std::move(one);
    names += (names.empty() ? "" : ", ") + one.name;
  }
  return invalid(fmt::format("no job '{}' in {}; there: {}", job, root.string(), names.empty() ? "none" : names));
}

result<base::unique_fd> open_supervisor(const job_record& job) {
  auto pidfd = job.supervisor_pid > 0 ? open_pidfd(job.supervisor_pid) : base::unique_fd{};
  // The start time is read after the descriptor is held: the pid cannot have changed hands in between unnoticed.
  if (!pidfd || start_time_of(job.supervisor_pid) != job.supervisor_start || wait_for_end(pidfd, base::now()))
    return fail(fault::peer_gone,
                fmt::format("the supervisor of job '{}' (process {}) has ended", job.name, job.supervisor_pid));
  return pidfd;
}

bool wait_for_end(const base::unique_fd& pidfd, protocols::time_point deadline) {
  pollfd process{pidfd.get(), POLLIN, 0};
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - base::now());
    const auto wait_ms = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000));
    const int ready = ::poll(&process, 1, wait_ms);
    if (ready > 0)
      return true;
    if (base::now() >= deadline)
      return false;
  }
}

} // namespace troupe::cluster
