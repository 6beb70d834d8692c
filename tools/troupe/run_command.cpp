#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <thread>

#include "protocols/limits.hpp"
#include "runtime/base/clock.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/conversation.hpp"
#include "tools/troupe/interruption.hpp"
#include "tools/troupe/launch.hpp"
#include "tools/troupe/text.hpp"
#include "tools/troupe/trace_command.hpp"

namespace troupe::tools {
namespace {

constexpr std::chrono::seconds connect_deadline{2};
/// How long a person who has interrupted waits for a reader of the answers that stands still.
constexpr std::chrono::seconds answer_grace{1};

struct run_options {
  std::string spec;
  ask_options questions;
  job_options job;
};

/// The client's half of a run, on a thread of its own: the supervisor needs the one that spawns the ranks.
class asking {
public:
  asking(conversation& talk, const answer_printer& answers, const checked_spec& spec, const cluster::job_paths& paths,
         interruption& stop)
      : talk_(talk), answers_(answers), spec_(spec), paths_(paths), stop_(stop), thread_([this] {
          run();
          done_.set_value();
        }) {}
  ~asking() { end(true); }
  asking(const asking&) = delete;
  asking& operator=(const asking&) = delete;

  void on_ready() { started_.set_value(true); }
  /// After the cluster has ended: whatever the thread waited for has ended with it, but for whoever reads the answers,
  /// whom it waits for longer than `answer_grace` only when nobody has `interrupted`.
  void end(bool interrupted) {
    if (!thread_.joinable())
      return;
    if (ready_.wait_for(std::chrono::seconds{0}) != std::future_status::ready)
      started_.set_value(false);
    ended_.set_value();
    if (interrupted && done_.get_future().wait_for(answer_grace) != std::future_status::ready)
      base::standard_output().give_up();
    thread_.join();
  }
  /// When the last page had ended; `fallback` when nothing could be asked.
  protocols::time_point answered(protocols::time_point fallback) const noexcept { return answered_.value_or(fallback); }
  /// Why the conversation broke off; nothing when it did not.
  const std::optional<embed::error>& problem() const noexcept { return problem_; }

private:
  void run() {
    talk_.read_ahead();
    if (!ready_.get())
      return;
    if (const auto held = hold(); !held)
      problem_ = held.error();
    answered_ = base::now();
    // When a rank has died its requests fail here before the supervisor has seen why; an orderly end must not be asked
    // for first, or it would be what is reported.
    if (problem_ || answers_.verdict() == base::exit_code::failed)
      ended_.get_future().wait_for(protocols::limits::first_cause_grace);
    stop_.finish();
  }
  embed::result<void> hold() {
    auto front =
        embed::client::connect(paths_.front_socket(), spec_.plan.front().value, base::now() + connect_deadline);
    if (!front)
      return tl::unexpected(front.error());
    const auto& timeouts = spec_.loaded.spec.timeouts;
    return talk_.hold(*front, std::chrono::milliseconds{timeouts.request_ms + timeouts.kill_ms});
  }

  conversation& talk_;
  const answer_printer& answers_;
  const checked_spec& spec_;
  const cluster::job_paths& paths_;
  interruption& stop_;
  std::optional<embed::error> problem_;
  std::optional<protocols::time_point> answered_;
  std::promise<void> ended_;
  std::promise<void> done_;
  std::promise<bool> started_;
  std::shared_future<bool> ready_{started_.get_future()};
  std::thread thread_; ///< last: it uses all of the above
};

/// Nobody knows a name that was made up, so nobody will look for its logs.
void forget(const std::filesystem::path& folder) {
  std::error_code ignored; // a folder that stays harms nothing
  std::filesystem::remove_all(folder, ignored);
}

/// Failed runs under a name that was made up keep their directory; this many of them, or they would fill the disk.
constexpr std::size_t failed_runs_kept = 8;

std::string made_up_name(std::string_view spec, pid_t process) {
  return fmt::format("{:.24}-run-{}", spec, process);
}

void forget_old_runs(const std::filesystem::path& root, std::string_view spec) {
  auto jobs = cluster::list_jobs(root);
  if (!jobs)
    return;
  std::erase_if(*jobs, [&](const cluster::job_record& job) {
    return job.running || job.name != made_up_name(spec, job.supervisor_pid);
  });
  std::ranges::sort(*jobs, std::greater{}, &cluster::job_record::started);
  for (std::size_t i = failed_runs_kept - 1; i < jobs->size(); ++i) // the one that ends now is not among them
    forget((*jobs)[i].paths.directory);
}

int run(run_options options) {
  const auto complain_of = [](const protocols::failure& problem) {
    return complain(exit_code_of(problem.code), problem.what);
  };
  const auto began = base::now();
  const auto pages = pages_of(options.questions);
  if (!pages)
    return complain_of(pages.error());
  const auto spec = check_spec(options.spec);
  if (!spec)
    return complain_of(spec.error());
  if (const auto serves = check_serves(spec->loaded.spec, options.spec, "run"); !serves)
    return complain_of(serves.error());
  if (spec->loaded.spec.model_path.empty())
    return complain(base::exit_code::config,
                    options.spec + ": has only stubs, which answer nothing; run needs a front, or use: troupe up");
  if (const auto fine = check_pictures(*pages, spec->loaded.spec.limits.picture_bytes_max); !fine)
    return complain_of(fine.error());
  const bool named = !options.job.job.empty();
  if (!named) // two runs of one spec must not meet
    options.job.job = made_up_name(spec->loaded.spec.name, ::getpid());

  answer_printer printer{*pages, options.questions.json};
  conversation talk{*pages, options.questions, spec->loaded.spec.limits.in_flight_max, printer};
  progress_line progress;
  auto launching = supervisor_options_of(spec->loaded, options.job, "");
  if (!launching)
    return complain_of(launching.error());
  std::optional<asking> client;
  std::optional<protocols::time_point> ready;
  launching->on_progress = [&](std::string_view line) { progress.show(line); };
  launching->on_ready = [&] {
    progress.clear();
    ready = base::now();
    client->on_ready();
  };
  speak_from_threads();
  launching->take_signals = false; // the client ends the run too: see `interruption`
  auto supervisor = cluster::supervisor::prepare(std::move(*launching));
  if (!supervisor)
    return complain_of(supervisor.error());

  interruption stop{**supervisor};
  client.emplace(talk, printer, *spec, (*supervisor)->paths(), stop);
  const auto outcome = (*supervisor)->run();
  const auto ended = base::now();
  progress.clear();
  stop.only_answers_are_left();
  client->end(stop.seen());
  const auto folder = (*supervisor)->paths().directory;
  if (outcome.code == base::exit_code::config) { // nothing was asked, and the cause says all there is to know
    if (!named)
      forget(folder);
    return complain(outcome.code, outcome.first_cause);
  }

  if (!printer.lost()) // else `end_outputs` says why those that are open have ended
    printer.end_rest(page_outcome::state::failed, client->problem() ? client->problem()->words
                                                  : stop.seen()     ? "interrupted"
                                                                    : "the cluster ended before it could be asked");
  // The answers come before what goes to stderr about them.
  base::standard_output().flush(stop.seen() ? std::optional{base::now() + answer_grace} : std::nullopt);
  printer.print_summary();
  if (ready && !options.questions.json) {
    const auto answered = client->answered(*ready);
    say("launch {}, answers {}, shutdown {}\n", in_words(*ready - began), in_words(answered - *ready),
        in_words(ended - answered));
  }

  const auto verdict = stop.seen() ? base::exit_code::interrupted : printer.verdict();
  const bool orderly =
      outcome.code == base::exit_code::done || (stop.seen() && outcome.code == base::exit_code::failed);
  const auto report = orderly ? failure_report{} : report_failure((*supervisor)->paths(), outcome.first_cause);
  if (!orderly)
    complain(outcome.code, report.block);
  else if (verdict == base::exit_code::failed && !printer.lost())
    complain(outcome.code, fmt::format("logs of the ranks: {}", (folder / "logs").string()));
  else if (!named)
    forget(folder);
  if (!named)
    forget_old_runs(folder.parent_path(), spec->loaded.spec.name);
  if (!orderly)
    return complain(outcome.code, report.cause);
  return static_cast<int>(verdict);
}

} // namespace

void add_run(CLI::App& troupe, action& chosen) {
  auto* command = troupe.add_subcommand("run", "launch a cluster, ask it, print the answers, end it");
  auto options = std::make_shared<run_options>();
  command->add_option("SPEC", options->spec, "a cluster spec (JSON, comments allowed)")->required()->type_name("");
  add_ask_options(*command, options->questions);
  command->add_option("--job", options->job.job, "name of the job; default: the spec's and the process id")
      ->type_name("NAME");
  add_run_dir_option(*command, options->job);
  command->footer(R"(Examples:
  troupe run deploy/specs/reader.json --image page.png --prompt "Read the text."
  troupe run deploy/specs/reader.json --image a.png b.png --prompt "Read the text." --json
  troupe run deploy/specs/reader.json --pages pages.json
  troupe run deploy/specs/reader.json --prompt "Hello" --temperature 0.7 --seed 1

The text goes to stdout as it comes, what took how long to stderr.
Exit codes: 0 answered, 1 a question failed, 2 usage, 3 spec, model or picture cannot be used, 5 refused,
6 a rank died, 7 not ready in time, 8 killed at the end, 130 interrupted.)");
  command->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

} // namespace troupe::tools
