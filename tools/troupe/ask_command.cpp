#include <memory>

#include "runtime/base/clock.hpp"
#include "tools/troupe/checked_spec.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/conversation.hpp"
#include "tools/troupe/job.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {
namespace {

constexpr std::chrono::seconds connect_deadline{2};

struct ask_command_options {
  ask_options questions;
  job_options job;
};

int ask(const ask_command_options& options) {
  const auto complain_of = [](const protocols::failure& problem) {
    return complain(exit_code_of(problem.code), problem.what);
  };
  const auto pages = pages_of(options.questions);
  if (!pages)
    return complain_of(pages.error());
  const auto job = choose_job(options.job);
  if (!job)
    return complain_of(job.error());
  const auto known = plan_of(*job);
  if (!known)
    return complain_of(known.error());
  if (const auto serves = check_serves(known->spec, "job " + job->name, "ask"); !serves)
    return complain_of(serves.error());
  if (const auto fine = check_pictures(*pages, known->spec.limits.picture_bytes_max); !fine)
    return complain_of(fine.error());

  auto front =
      embed::client::connect(job->paths.front_socket(), known->plan.front().value, base::now() + connect_deadline);
  if (!front)
    return complain(exit_code_of(front.error().why), "job " + job->name + " does not answer: " + front.error().what);
  answer_printer printer{*pages, options.questions.json};
  conversation talk{*pages, options.questions, known->spec.limits.in_flight_max, printer};
  const auto& timeouts = known->spec.timeouts;
  const auto held = talk.hold(*front, std::chrono::milliseconds{timeouts.request_ms + timeouts.kill_ms});
  const bool refused = !held && held.error().why == embed::reason::overloaded;
  if (!printer.lost())
    printer.end_rest(refused ? page_outcome::state::refused : page_outcome::state::failed,
                     held ? "not asked: job " + job->name + " shuts down"
                          : "job " + job->name + (refused ? " refuses: " : " is gone: ") + held.error().words);
  printer.print_summary();
  return static_cast<int>(printer.verdict());
}

} // namespace

void add_ask(CLI::App& troupe, action& chosen) {
  auto* command = troupe.add_subcommand("ask", "ask a job that runs");
  auto options = std::make_shared<ask_command_options>();
  add_ask_options(*command, options->questions);
  add_job_options(*command, options->job);
  command->footer(R"(Examples:
  troupe ask --image page.png --prompt "Read the text."
  troupe ask --job reader --pages pages.json --json

The text goes to stdout as it comes, what took how long to stderr.
Exit codes: 0 answered, 1 a question failed, 2 usage, 3 a picture's file cannot be read,
or the job is of another program, 4 no such job, 5 refused.)");
  command->callback([options, &chosen] { chosen = [options] { return ask(*options); }; });
}

} // namespace troupe::tools
