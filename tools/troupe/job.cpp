#include "tools/troupe/job.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/base/regular_file.hpp"
#include "runtime/cluster/spec_file.hpp"

namespace troupe::tools {

using protocols::fail;
using protocols::fault;
using protocols::result;

void add_run_dir_option(CLI::App& command, job_options& options) {
  command
      .add_option("--run-dir", options.run_dir,
                  "where jobs keep sockets and logs; default $XDG_RUNTIME_DIR/troupe or /tmp/troupe-UID")
      ->type_name("DIR");
}

void add_job_options(CLI::App& command, job_options& options) {
  command.add_option("--job", options.job, "the job; may be left out when exactly one runs")->type_name("NAME");
  add_run_dir_option(command, options);
}

result<std::filesystem::path> root_of(const job_options& options) {
  return cluster::run_root(options.run_dir.empty() ? std::nullopt
                                                   : std::optional<std::filesystem::path>{options.run_dir});
}

namespace {

std::string names_of(const std::vector<cluster::job_record>& jobs) {
  std::string names;
  for (const auto& job : jobs)
    names += (names.empty() ? "" : ", ") + job.name;
  return names.empty() ? "none" : names;
}

} // namespace

result<cluster::job_record> choose_job(const job_options& options, bool ended_too) {
  const auto root = root_of(options);
  if (!root)
    return tl::unexpected(root.error());
  auto jobs = cluster::list_jobs(*root);
  if (!jobs)
    return tl::unexpected(jobs.error());
  auto running = *jobs;
  std::erase_if(running, [](const auto& job) { return !job.running; });

  if (!options.job.empty()) {
    const auto& among = ended_too ? *jobs : running;
    const auto found = std::ranges::find(among, options.job, &cluster::job_record::name);
    if (found != among.end())
      return *found;
    return fail(fault::peer_gone, fmt::format("no job {} {} in {}; there: {}", options.job,
                                              ended_too ? "was started" : "runs", root->string(), names_of(among)));
  }
  if (running.size() == 1)
    return running.front();
  if (running.empty())
    return fail(fault::peer_gone, fmt::format("no job runs in {}; start one with: troupe up SPEC", root->string()));
  return fail(fault::peer_gone, fmt::format("several jobs run; choose one with --job: {}", names_of(running)));
}

result<job_plan> plan_of(const cluster::job_record& job) {
  const auto text = base::read_regular(job.paths.file("spec.json"), cluster::job_file_bytes_max);
  if (!text)
    return tl::unexpected(text.error());
  auto spec = cluster::parse_effective_spec(*text);
  if (!spec)
    return tl::unexpected(spec.error());
  auto plan = protocols::make_plan(*spec);
  if (!plan)
    return tl::unexpected(plan.error());
  return job_plan{.spec = std::move(*spec), .plan = std::move(*plan)};
}

std::optional<cluster::job_status> status_of(const cluster::job_record& job) {
  auto status = cluster::parse_job_status(job.status);
  return status ? std::optional{std::move(*status)} : std::nullopt;
}

table rank_table(const cluster::job_status& status) {
  table ranks{{{"rank", table::side::right}, {"role"}, {"label"}, {"pid", table::side::right}, {"device"}, {"state"}}};
  for (const auto& rank : status.ranks)
    ranks.add({std::to_string(rank.id), rank.role, rank.label, std::to_string(rank.pid),
               rank.device.empty() ? "-" : rank.device, rank.state});
  return ranks;
}

nlohmann::ordered_json as_json(const cluster::job_status& status) {
  auto ranks = nlohmann::ordered_json::array();
  for (const auto& rank : status.ranks)
    ranks.push_back({{"rank", rank.id},
                     {"role", rank.role},
                     {"label", rank.label},
                     {"pid", rank.pid},
                     {"device", rank.device},
                     {"state", rank.state},
                     {"generation", rank.generation}});
  return {{"state", status.state}, {"front_socket", status.front_socket}, {"http", status.http}, {"ranks", ranks}};
}

} // namespace troupe::tools
