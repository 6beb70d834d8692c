#include "tools/troupe/series_cycles.hpp"

#include <signal.h>

#include <fmt/format.h>

#include "runtime/base/clock.hpp"

namespace troupe::tools {

using namespace protocols;

namespace {

void go_round(series_job& job, series_trial& out) {
  const auto deadline = job.launched() + hang_deadline;
  auto& running = job.running();
  const auto has_ended = [&] { return running.has_ended(); };
  if (!job.until(deadline, [&] { return running.is_ready() || has_ended(); }) || has_ended())
    return out.problem("was not ready: " + running.last_line());
  out.measured("launch", base::now() - job.launched());

  const auto asked_at = base::now();
  if (const auto asked = job.begin_to_ask(); !asked)
    return out.problem("asking: " + asked.error().what);
  if (!job.until(deadline, [&] { return job.load().is_over() || has_ended(); }))
    return out.problem("did not answer");
  out.measured("answer", base::now() - asked_at);
  if (job.load().counts().done != 1)
    out.problem("did not answer rightly: " + running.last_line());

  const auto told_at = base::now();
  running.signal(SIGTERM);
  if (!job.until(deadline, has_ended))
    return out.problem("did not leave");
  job.see_all_leave(out, told_at, "teardown");
  if (running.exit_code() != 0)
    out.problem(fmt::format("exit code {}: {}", running.exit_code().value_or(-1), running.last_line()));
}

} // namespace

result<series_trial> run_cycle(const series_setup& setup, std::uint32_t number) {
  const auto& page = setup.pages[number % setup.pages.size()];
  auto job = series_job::launch(setup, {.pages = {page}});
  if (!job)
    return tl::unexpected{job.error()};
  series_trial out;
  out.number = number;
  out.what = fmt::format("a cycle with \"{}\"", page.prompt);
  go_round(**job, out);
  (*job)->conclude(out);
  return out;
}

} // namespace troupe::tools
