#include "tools/troupe/inject_command.hpp"

#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "runtime/base/clock.hpp"
#include "runtime/cluster/control_listener.hpp"
#include "runtime/cluster/injection_text.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/job.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {
namespace {

constexpr std::chrono::milliseconds answer_deadline{5000};

struct inject_options {
  job_options job;
  std::vector<std::string> rules;
};

int inject(const inject_options& options) {
  const auto job = choose_job(options.job);
  if (!job)
    return complain(exit_code_of(job.error().code), job.error().what);
  const auto known = plan_of(*job);
  if (!known)
    return complain(exit_code_of(known.error().code), known.error().what);
  const auto rules = resolve_rules(options.rules, known->plan);
  if (!rules)
    return complain(base::exit_code::usage, rules.error().what);
  for (const auto& rule : *rules)
    if (const auto taken =
            cluster::order_injection(job->paths.file("control.sock").string(), rule, base::now() + answer_deadline);
        !taken)
      return complain(taken.error().code == protocols::fault::peer_gone ? base::exit_code::not_running
                                                                        : base::exit_code::refused,
                      taken.error().what);
  return static_cast<int>(base::exit_code::done);
}

} // namespace

protocols::result<std::vector<protocols::inject>> resolve_rules(const std::vector<std::string>& texts,
                                                                const protocols::cluster_plan& plan) {
  std::vector<protocols::inject> rules;
  for (const auto& text : texts) {
    auto rule = cluster::parse_rule(text).and_then(
        [&](const cluster::written_rule& written) { return cluster::resolve_rule(written, plan); });
    if (!rule)
      return tl::unexpected(rule.error());
    rules.push_back(std::move(*rule));
  }
  return rules;
}

void add_inject(CLI::App& troupe, action& chosen) {
  auto* command = troupe.add_subcommand("inject", "make a fault in a running job whose spec says \"drills\": true");
  auto options = std::make_shared<inject_options>();
  command->add_option("JOB", options->job.job, "name of the job")->required()->type_name("");
  command->add_option("RULE", options->rules, "key=value,key=value, or a JSON object")->required()->type_name("");
  add_run_dir_option(*command, options->job);
  std::string keys;
  for (const auto& key : cluster::rule_keys())
    keys += fmt::format("  {:<9}{}\n", key.name, key.description);
  std::string actions;
  for (const auto name : protocols::drill_action_names())
    actions += fmt::format("{}{}", actions.empty() ? "" : " ", name);
  command->footer(fmt::format(R"(Keys of a rule:
{}
Actions: {}

Examples:
  troupe inject reader rank=decode.0,action=kill
  troupe inject reader rank=prefill.0/t1,action=wedge,point=group.entered,skip=40
  troupe inject reader rank=encode.0,action=drop,peer=prefill.0/t0,message=arrived

Exit codes: 0 on its way, 2 usage, 4 no such job, 5 refused.)",
                              keys, actions));
  command->callback([options, &chosen] { chosen = [options] { return inject(*options); }; });
}

} // namespace troupe::tools
