#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/time.hpp"
#include "runtime/base/unique_fd.hpp"
#include "runtime/cluster/spec_file.hpp"

/// Where a job keeps its sockets, logs and state, so that `ps`, `logs`, `down` and clients find it.
///
///   ROOT/JOB/lock         held by the supervisor for its life
///            job.json     who runs it, since when, from which spec
///            status.json  ranks and their states, replaced whole at each change
///            spec.json    the effective spec
///            logs/all.log, logs/RANK.log; each with a .old before it once it was full
///            flight/rN.gM.ring (what rank N noted in generation M), flight/supervisor.ring
///            front.sock, rN.sock (control lanes of rank N), tN.sock (its transfers)
///
/// A directory whose lock nobody holds is what a supervisor left behind: it is kept for `logs` and `trace`, and cleared
/// by the next `up` of that name. The lock is an open-file-description lock: the kernel drops it with the process, and
/// asking who holds it takes nothing (a flock could only be tried, and the trial would refuse a supervisor that starts
/// just then).
namespace troupe::cluster {

/// Of job.json, status.json and spec.json; a larger one is none of ours.
inline constexpr std::size_t job_file_bytes_max = 16u * 1024 * 1024;

/// `asked`, or $XDG_RUNTIME_DIR/troupe, or /tmp/troupe-UID; made with mode 0700 when absent.
/// Errors: config_invalid: cannot be made, belongs to another user, or others may write to it.
protocols::result<std::filesystem::path> run_root(const std::optional<std::filesystem::path>& asked);

/// The names in a job's directory. Paths are absolute.
struct job_paths {
  std::filesystem::path directory;

  std::filesystem::path file(std::string_view name) const { return directory / name; }
  std::filesystem::path front_socket() const { return file("front.sock"); }
  std::filesystem::path control_socket(protocols::rank_id rank) const;
  std::filesystem::path transfer_socket(protocols::rank_id rank) const;
  std::filesystem::path log_of(protocols::rank_id rank) const;
  std::filesystem::path log_of_all() const { return directory / "logs" / "all.log"; }
  std::filesystem::path flight_folder() const { return directory / "flight"; }
};

/// The supervisor's hold on a job's directory.
class job_directory {
public:
  /// Takes the lock, clears what an earlier supervisor left, writes job.json and spec.json.
  /// Errors: config_invalid: somebody runs the job (with pid, start and spec), a path too long for a socket, a
  /// directory that cannot be written.
  static protocols::result<job_directory> take(const std::filesystem::path& root, const std::string& job,
                                               const loaded_spec& spec, std::uint32_t ranks);

  const job_paths& paths() const noexcept { return paths_; }

  /// Replaces status.json; a reader sees the old or the new text, never a part. Errors: config_invalid.
  protocols::result<void> write_status(std::string_view json) const;

private:
  job_directory(job_paths paths, base::unique_fd lock) noexcept : paths_(std::move(paths)), lock_(std::move(lock)) {}

  job_paths paths_;
  base::unique_fd lock_;
};

/// A job as its directory tells it.
struct job_record {
  std::string name;
  job_paths paths;
  bool running = false; ///< a supervisor holds the lock
  pid_t supervisor_pid = 0;
  std::uint64_t supervisor_start = 0; ///< see `start_time_of`
  std::string spec_path;
  std::string started; ///< UTC, "2026-11-21T02:25:14Z"
  std::string status;  ///< status.json as it stands; empty when there is none
};

/// By name. Errors: config_invalid (the root cannot be read).
protocols::result<std::vector<job_record>> list_jobs(const std::filesystem::path& root);
/// Errors: config_invalid with the jobs that are there.
protocols::result<job_record> find_job(const std::filesystem::path& root, const std::string& job);

/// A pidfd of the job's supervisor, identified by its start time: never another process that got its pid.
/// Errors: peer_gone (it has ended).
protocols::result<base::unique_fd> open_supervisor(const job_record& job);
/// True when the process has ended by the deadline.
bool wait_for_end(const base::unique_fd& pidfd, protocols::time_point deadline);

} // namespace troupe::cluster
