#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/fault.hpp"
#include "runtime/cluster/job_directory.hpp"
#include "runtime/cluster/job_status.hpp"
#include "tools/troupe/text.hpp"

namespace CLI {
class App;
}

namespace troupe::tools {

/// Which job a command is about.
struct job_options {
  std::string job;     ///< empty: the only one that runs
  std::string run_dir; ///< empty: the default
};
void add_run_dir_option(CLI::App& command, job_options& options);
void add_job_options(CLI::App& command, job_options& options);

/// The directory of all jobs. Errors: config_invalid.
protocols::result<std::filesystem::path> root_of(const job_options& options);

/// Errors: peer_gone (no such job, none runs, or several do: the jobs that are there), config_invalid.
/// `ended_too`: a job that has ended may be named, for its logs.
protocols::result<cluster::job_record> choose_job(const job_options& options, bool ended_too = false);

/// What a client must know of a job. Errors: config_invalid (its directory is damaged).
struct job_plan {
  protocols::cluster_spec spec;
  protocols::cluster_plan plan;
};
protocols::result<job_plan> plan_of(const cluster::job_record& job);

/// status.json, or nothing where there is none yet.
std::optional<cluster::job_status> status_of(const cluster::job_record& job);

/// The ranks of a job with their pids and states, for people and for programs.
table rank_table(const cluster::job_status& status);
nlohmann::ordered_json as_json(const cluster::job_status& status);

} // namespace troupe::tools
