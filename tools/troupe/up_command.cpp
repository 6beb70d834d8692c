#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/base/clock.hpp"
#include "runtime/base/regular_file.hpp"
#include "runtime/cluster/json_text.hpp"
#include "runtime/cluster/spec_explain.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/inject_command.hpp"
#include "tools/troupe/launch.hpp"
#include "tools/troupe/rank_records.hpp"
#include "tools/troupe/text.hpp"
#include "tools/troupe/trace_command.hpp"

namespace troupe::tools {
namespace {

struct up_options {
  std::string spec;
  job_options job;
  bool json = false;
  std::optional<std::string> http; ///< in place of the spec's

  std::optional<std::string> listen() const { return http == "off" ? std::optional{std::string{}} : http; }
  std::vector<std::string> injections;
};

/// The status that the supervisor has written: what `ps` would show.
cluster::job_status written_status(const cluster::job_paths& paths) {
  return base::read_regular(paths.file("status.json"), cluster::job_file_bytes_max)
      .and_then([](const std::string& text) { return cluster::parse_job_status(text); })
      .value_or(cluster::job_status{});
}

/// One screen: what runs, how to ask it, how to end it.
void print_ready(const checked_spec& spec, const std::string& job, const cluster::job_paths& paths,
                 protocols::duration took) {
  const palette colours{STDOUT_FILENO};
  const auto plan = cluster::explain_plan(spec.loaded.spec, spec.plan);
  const auto lanes = plan.find("lanes\n"); // the last part of the plan
  // Commands elsewhere find the job by its name alone only where the default directory is used.
  const auto named = fmt::format("--job {} --run-dir {}", job, paths.directory.parent_path().string());
  const auto status = written_status(paths);
  auto text = fmt::format("{} is ready, after {} (process {}, {})\n\n{}\n{}\n", colours.bold(job), in_words(took),
                          ::getpid(), spec.loaded.file.string(), rank_table(status).text(colours),
                          lanes == std::string::npos ? "" : plan.substr(lanes));
  if (!status.http.empty())
    text += fmt::format("http  {}://{}/v1\n", spec.loaded.spec.http.certificate_file.empty() ? "http" : "https",
                        status.http);
  text += fmt::format("ask   troupe ask {0} --image FILE --prompt TEXT\n"
                      "logs  troupe logs {0} --follow\n"
                      "stop  Ctrl-C, or: troupe down {0}\n",
                      named);
  base::standard_output().offer(text);
}

void print_ready_json(const std::string& job, const cluster::job_paths& paths, protocols::duration took) {
  nlohmann::ordered_json line{{"job", job},
                              {"supervisor_pid", ::getpid()},
                              {"directory", paths.directory.string()},
                              {"launch_ms", std::chrono::duration<double, std::milli>(took).count()}};
  line.update(as_json(written_status(paths)));
  add_records(line["ranks"], paths);
  base::standard_output().offer(cluster::text_of(line) + '\n');
}

int up(const up_options& options) {
  const auto began = base::now();
  const auto spec = check_spec(options.spec);
  if (!spec)
    return complain(exit_code_of(spec.error().code), spec.error().what);
  auto launching = supervisor_options_of(spec->loaded, options.job, options.listen());
  if (!launching)
    return complain(exit_code_of(launching.error().code), launching.error().what);
  if (const auto rules = resolve_rules(options.injections, spec->plan))
    launching->rules = *rules;
  else
    return complain(base::exit_code::usage, rules.error().what);
  const auto job = launching->job;
  speak_from_threads();
  progress_line progress;
  std::unique_ptr<cluster::supervisor> supervisor;
  launching->on_progress = [&](std::string_view line) { progress.show(line); };
  launching->on_ready = [&] {
    progress.clear();
    if (options.json)
      print_ready_json(job, supervisor->paths(), base::now() - began);
    else
      print_ready(*spec, job, supervisor->paths(), base::now() - began);
  };
  auto prepared = cluster::supervisor::prepare(std::move(*launching));
  if (!prepared)
    return complain(exit_code_of(prepared.error().code), prepared.error().what);
  supervisor = std::move(*prepared);

  const auto outcome = supervisor->run();
  progress.clear();
  const bool orderly = outcome.code == base::exit_code::done || outcome.code == base::exit_code::interrupted;
  if (orderly || outcome.code == base::exit_code::config) // which says all there is to know
    return complain(outcome.code, outcome.first_cause);
  const auto report = report_failure(supervisor->paths(), outcome.first_cause);
  complain(outcome.code, report.block);
  return complain(outcome.code, report.cause);
}

} // namespace

void add_up(CLI::App& troupe, action& chosen) {
  auto* command = troupe.add_subcommand("up", "launch a cluster and serve until interrupted");
  auto options = std::make_shared<up_options>();
  command->add_option("SPEC", options->spec, "a cluster spec (JSON, comments allowed)")->required()->type_name("");
  command->add_option("--job", options->job.job, "name of the job; default: the spec's")->type_name("NAME");
  add_run_dir_option(*command, options->job);
  command->add_flag("--json", options->json, "one JSON object when it is ready");
  command
      ->add_option("--http", options->http,
                   "where to listen for HTTP in place of the spec's http.listen, as 127.0.0.1:8000; off: nowhere")
      ->type_name("ADDRESS");
  command->add_option("--inject", options->injections, "a fault armed before a rank runs; see troupe inject")
      ->type_name("RULE");
  command->footer(R"(Examples:
  troupe up deploy/specs/reader.json
  troupe up deploy/specs/reader.json --job second --json

Ctrl-C, SIGTERM and `troupe down` let it finish what it has taken; a second Ctrl-C ends it at once.
Exit codes: 0 ended by SIGTERM or down, 2 usage, 3 spec, model or run directory cannot be used, 6 a rank died,
7 not ready in time, 8 killed at the end, 130 ended by Ctrl-C.)");
  command->callback([options, &chosen] { chosen = [options] { return up(*options); }; });
}

} // namespace troupe::tools
