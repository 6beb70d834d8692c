#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "runtime/cluster/json_text.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/job.hpp"
#include "tools/troupe/rank_records.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {
namespace {

struct ps_options {
  job_options job;
  bool json = false;
};

void print_json(const cluster::job_record& job, const std::optional<cluster::job_status>& status) {
  nlohmann::ordered_json line{{"job", job.name},
                              {"supervisor_pid", job.supervisor_pid},
                              {"started", job.started},
                              {"spec", job.spec_path},
                              {"directory", job.paths.directory.string()}};
  if (status)
    line.update(as_json(*status));
  if (line.contains("ranks"))
    add_records(line["ranks"], job.paths);
  print("{}\n", cluster::text_of(line));
}

int ps(const ps_options& options) {
  const auto root = root_of(options.job);
  if (!root)
    return complain(exit_code_of(root.error().code), root.error().what);
  const auto jobs = cluster::list_jobs(*root);
  if (!jobs)
    return complain(exit_code_of(jobs.error().code), jobs.error().what);
  const palette colours{STDOUT_FILENO};
  bool any = false;
  for (const auto& job : *jobs) {
    if (!job.running)
      continue;
    const auto status = status_of(job);
    if (options.json) {
      print_json(job, status);
      continue;
    }
    print("{}{}  {}  process {}  since {}  {}\n", any ? "\n" : "", colours.bold(job.name),
          status ? status->state : "starting", job.supervisor_pid, job.started, job.spec_path);
    if (status)
      print("{}", rank_table(*status).text(colours));
    any = true;
  }
  if (!any && !options.json)
    print("no job runs in {}\n", root->string());
  return static_cast<int>(base::exit_code::done);
}

} // namespace

void add_ps(CLI::App& troupe, action& chosen) {
  auto* command = troupe.add_subcommand("ps", "list the jobs that run, with their ranks");
  auto options = std::make_shared<ps_options>();
  add_run_dir_option(*command, options->job);
  command->add_flag("--json", options->json, "one JSON object a line for each job");
  command->footer(R"text(Examples:
  troupe ps
  troupe ps --json | jq -r '.ranks[] | "\(.label) \(.pid)"'

Exit codes: 0 done, also when no job runs; 2 usage; 3 the run directory cannot be used.)text");
  command->callback([options, &chosen] { chosen = [options] { return ps(*options); }; });
}

} // namespace troupe::tools
