#include "tools/troupe/series_pressure.hpp"

#include <signal.h>

#include <limits>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "runtime/base/clock.hpp"

namespace troupe::tools {

using namespace protocols;
using namespace std::chrono_literals;

namespace {

constexpr auto rest_least = 200ms; ///< between two pauses
constexpr auto rest_most = 1200ms;
constexpr auto excuse = 5s; ///< for what follows from a pause that was longer than it should have been
constexpr auto news_period = 10s;
constexpr auto overload_period = 1s; ///< so often the front is asked for more than it takes

class pressure_run {
public:
  pressure_run(const series_setup& setup, const pressure_plan& plan, series_job& job,
               const std::function<void(std::string_view)>& progress)
      : setup_(setup), plan_(plan), job_(job), progress_(progress), random_(plan.seed) {}

  pressure_result run() {
    const auto ready = [&] { return job_.running().is_ready() || job_.running().has_ended(); };
    if (!job_.until(job_.launched() + hang_deadline, ready) || job_.running().has_ended()) {
      problem("was not ready: " + job_.running().last_line());
      return finish();
    }
    if (const auto asked = job_.begin_to_ask(); !asked) {
      problem("asking: " + asked.error().what);
      return finish();
    }
    const auto began = base::now();
    for (out_.lasted = {}; out_.lasted < plan_.length && !job_.running().has_ended();
         out_.lasted = base::now() - began) {
      pause_somebody();
      rest();
      count_false_kills();
      tell();
    }
    end();
    return finish();
  }

private:
  void problem(std::string text) { out_.trial.problem(std::move(text)); }

  void pass(duration time) {
    const auto until = base::now() + time;
    while (base::now() < until && !job_.running().has_ended()) {
      if (base::now() >= next_overload_) {
        next_overload_ = base::now() + overload_period;
        job_.load().ask_at_once(2 * std::size_t{setup_.settings.limits.in_flight_max});
      }
      job_.pass(std::min<time_point>(until, next_overload_));
    }
  }

  void pause_somebody() {
    const auto victim = random_() % (setup_.plan.ranks.size() + 1);
    const bool of_supervisor = victim == setup_.plan.ranks.size();
    const auto& timeouts = setup_.settings.timeouts;
    const auto bound = of_supervisor ? timeouts.supervisor_ms : timeouts.kill_ms;
    const auto ranks = job_.running().ranks();
    const auto found = ranks.find(rank_id{static_cast<std::uint32_t>(victim)});
    if (!of_supervisor && found == ranks.end())
      return; // it is being started anew, and counted
    const pid_t pid = of_supervisor ? job_.running().pid() : found->second;
    const auto stopped = base::now();
    ::kill(pid, SIGSTOP);
    pass(std::chrono::milliseconds{bound - 2 * timeouts.heartbeat_ms});
    ::kill(pid, SIGCONT);
    ++out_.pauses;
    if (base::now() - stopped >= std::chrono::milliseconds{bound - timeouts.heartbeat_ms}) {
      ++out_.overlong; // whoever was to end the pause was late itself
      excused_until_ = base::now() + excuse;
    }
    paused_ = of_supervisor ? "supervisor" : setup_.plan.rank(found->first).label;
  }

  void rest() { pass(rest_least + std::chrono::milliseconds{random_() % ((rest_most - rest_least) / 1ms)}); }

  void count_false_kills() {
    const auto status = job_.running().status();
    if (!status)
      return;
    auto newest = newest_;
    for (const auto& rank : status->ranks)
      newest = std::max(newest, rank.generation);
    const auto started_anew = newest - std::exchange(newest_, newest);
    if (started_anew == 0 || base::now() < excused_until_)
      return;
    out_.false_kills += started_anew;
    problem(fmt::format("after a pause of {}: {}", paused_, job_.running().last_line()));
  }

  void tell() {
    if (base::now() < next_news_)
      return;
    next_news_ = base::now() + news_period;
    progress_(fmt::format("{} of {} s: {} pauses, {} false kills, {} answered, {} failed", out_.lasted / 1s,
                          plan_.length.count(), out_.pauses, out_.false_kills, job_.load().counts().done,
                          job_.load().counts().failed));
  }

  void end() {
    if (job_.running().has_ended()) {
      ++out_.false_kills;
      return problem(fmt::format("after a pause of {} it ended: {}", paused_, job_.running().last_line()));
    }
    const auto deadline = base::now() + std::chrono::milliseconds{setup_.settings.timeouts.request_ms} + hang_deadline;
    job_.load().stop_asking();
    if (!job_.until(deadline, [&] { return job_.load().is_over() || job_.running().has_ended(); }))
      problem("did not answer what it had taken");
    const auto told_at = base::now();
    job_.running().signal(SIGTERM);
    job_.until(deadline, [&] { return job_.running().has_ended(); });
    job_.see_all_leave(out_.trial, told_at, "teardown");
    if (job_.running().exit_code() != 0)
      problem(fmt::format("exit code {}: {}", job_.running().exit_code().value_or(-1), job_.running().last_line()));
  }

  pressure_result finish() {
    out_.trial.number = 1;
    out_.trial.what = fmt::format("{} pauses ({} too long, not counted) in {} s, {} false kills", out_.pauses,
                                  out_.overlong, out_.lasted / 1s, out_.false_kills);
    job_.conclude(out_.trial);
    if (const auto& load = out_.trial.load; load.failed + load.refused != 0)
      problem(fmt::format("{} requests failed, {} were refused", load.failed, load.refused));
    return std::move(out_);
  }

  const series_setup& setup_;
  const pressure_plan& plan_;
  series_job& job_;
  const std::function<void(std::string_view)>& progress_;
  std::mt19937_64 random_;
  std::string paused_ = "nobody";
  std::uint32_t newest_ = 1; ///< generation
  time_point excused_until_;
  time_point next_overload_;
  time_point next_news_;
  pressure_result out_;
};

} // namespace

result<pressure_result> run_pressure(const series_setup& setup, const pressure_plan& plan,
                                     const std::function<void(std::string_view)>& progress) {
  auto job = series_job::launch(setup, {.pages = setup.pages,
                                        .repeat = std::numeric_limits<std::uint32_t>::max(),
                                        .at_once = 2 * setup.settings.limits.in_flight_max});
  if (!job)
    return tl::unexpected{job.error()};
  return pressure_run{setup, plan, **job, progress}.run();
}

} // namespace troupe::tools
