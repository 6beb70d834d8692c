#include <fmt/format.h>
#include <signal.h>
extern "C" { // glibc 2.36 forgets it
#include <sys/pidfd.h>
}

#include <chrono>
#include <memory>

#include "runtime/base/clock.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/job.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {
namespace {

/// How much longer than its own drain a supervisor may take before it is killed.
constexpr std::chrono::milliseconds launcher_grace{5000};
constexpr std::chrono::milliseconds kill_deadline{2000};

/// How the job ended where that was not in order: ranks had to be killed, or one failed while it drained.
struct disorder {
  base::exit_code code;
  std::string cause;
};
std::optional<disorder> disorder_of(const cluster::job_record& job) {
  const auto now = cluster::find_job(job.paths.directory.parent_path(), job.name);
  if (!now || now->supervisor_pid != job.supervisor_pid || now->supervisor_start != job.supervisor_start)
    return std::nullopt; // another has taken the name since
  const auto status = status_of(*now);
  if (!status || status->exit_code == 0)
    return std::nullopt;
  return disorder{static_cast<base::exit_code>(status->exit_code), status->cause};
}

struct down_options {
  job_options job;
  std::uint32_t timeout_ms = 0; ///< 0: from the job's spec
};

int down(const down_options& options) {
  const auto job = choose_job(options.job);
  if (!job)
    return complain(exit_code_of(job.error().code), job.error().what);
  auto patience = std::chrono::milliseconds{options.timeout_ms};
  if (options.timeout_ms == 0) {
    const auto known = plan_of(*job);
    patience = launcher_grace + std::chrono::milliseconds{known ? known->spec.timeouts.drain_ms : 0};
  }
  const auto supervisor = cluster::open_supervisor(*job);
  if (!supervisor)
    return complain(exit_code_of(supervisor.error().code), supervisor.error().what);

  const auto began = base::now();
  ::pidfd_send_signal(supervisor->get(), SIGTERM, nullptr, 0);
  if (cluster::wait_for_end(*supervisor, began + patience)) {
    const auto took = in_words(base::now() - began);
    if (const auto found = disorder_of(*job))
      return complain(found->code,
                      fmt::format("{} is down, in {}, but not in order: {}", job->name, took, found->cause));
    print("{} is down, in {}\n", job->name, took);
    return static_cast<int>(base::exit_code::done);
  }
  ::pidfd_send_signal(supervisor->get(), SIGKILL, nullptr, 0); // its ranks see the death pipe end
  const bool gone = cluster::wait_for_end(*supervisor, base::now() + kill_deadline);
  return complain(gone ? base::exit_code::drain_timeout : base::exit_code::failed,
                  fmt::format("job {} had not left within {} ms; its supervisor (process {}) {}", job->name,
                              patience.count(), job->supervisor_pid, gone ? "was killed" : "does not die of SIGKILL"));
}

} // namespace

void add_down(CLI::App& troupe, action& chosen) {
  auto* command = troupe.add_subcommand("down", "end a job: it finishes what it has taken, then leaves");
  auto options = std::make_shared<down_options>();
  add_job_options(*command, options->job);
  command->add_option("--timeout-ms", options->timeout_ms, "kill what has not left by then; default: drain_ms and 5 s")
      ->type_name("N")
      ->check(CLI::Range(1, 3'600'000).description(""));
  command->footer(R"(Examples:
  troupe down
  troupe down --job reader --timeout-ms 2000

Exit codes: 0 down, 2 usage, 4 no such job, 6 a rank failed meanwhile, 8 it, or ranks that did not leave in time, had
to be killed.)");
  command->callback([options, &chosen] { chosen = [options] { return down(*options); }; });
}

} // namespace troupe::tools
