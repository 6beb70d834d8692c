#include "tools/troupe/series_kills.hpp"

#include <signal.h>

#include <algorithm>
#include <random>

#include <fmt/format.h>

#include "runtime/base/clock.hpp"
#include "tools/troupe/drill_run.hpp"

namespace troupe::tools {

using namespace protocols;
using namespace std::chrono_literals;

namespace {

/// Above what each moment lasts on an idle machine, so that its end is struck too.
constexpr std::chrono::microseconds longest_start{600'000};
constexpr std::chrono::microseconds longest_service{500'000};
constexpr std::chrono::microseconds longest_drain{60'000};

std::string_view name(kill_moment when) noexcept {
  switch (when) {
  case kill_moment::starting:
    return "the start";
  case kill_moment::serving:
    return "serving";
  case kill_moment::draining:
    return "the drain";
  }
  return {};
}

class kill_trial {
public:
  kill_trial(const series_setup& setup, series_job& job, const kill_plan& plan, series_trial& out)
      : setup_(setup), job_(job), plan_(plan), out_(out), deadline_(job.launched() + hang_deadline) {}

  void run() {
    if (!reach_moment() || !strike())
      return;
    see_unit_leave();
    if (supervisor_struck_ || job_.running().has_ended())
      return judge_end();
    if (comes_back())
      return end_by_killing();
    judge_end();
  }

private:
  bool has_ended() { return job_.running().has_ended(); }

  bool reach_moment() {
    if (plan_.when == kill_moment::starting) {
      job_.pass(job_.launched() + plan_.after);
      return true;
    }
    if (!job_.until(deadline_, [&] { return job_.running().is_ready() || has_ended(); }) || has_ended()) {
      out_.problem("was not ready: " + job_.running().last_line());
      return false;
    }
    if (const auto asked = job_.begin_to_ask(); !asked) {
      out_.problem("asking: " + asked.error().what);
      return false;
    }
    if (plan_.when == kill_moment::draining) {
      job_.until(deadline_, [&] { return job_.load().has_token(); });
      job_.running().signal(SIGTERM);
    }
    job_.pass(base::now() + plan_.after);
    return true;
  }

  /// Whoever is not there yet is waited for; of those that have left already in a drain, the supervisor takes the
  /// place.
  bool strike() {
    if (plan_.victim != supervisor_rank) {
      auto ranks = job_.running().ranks();
      if (plan_.when == kill_moment::starting)
        job_.until(deadline_, [&] {
          ranks = job_.running().ranks();
          return ranks.contains(plan_.victim) || has_ended();
        });
      if (const auto found = ranks.find(plan_.victim); found != ranks.end()) {
        for (const auto& [rank, pid] : ranks)
          if (shares_fate(rank))
            unit_.push_back(pid);
        struck_at_ = base::now();
        ::kill(found->second, SIGKILL);
        return true;
      }
    }
    supervisor_struck_ = true;
    if (has_ended() && plan_.when == kill_moment::draining) {
      out_.what += ", which had ended";
      return false;
    }
    unit_ = job_.running().alive();
    struck_at_ = base::now();
    job_.running().signal(SIGKILL);
    return true;
  }

  bool shares_fate(rank_id rank) const {
    return std::ranges::any_of(
        setup_.plan.cells, [&](const cell_plan& cell) { return cell.place_of(rank) && cell.place_of(plan_.victim); });
  }

  void see_unit_leave() {
    if (supervisor_struck_)
      return job_.see_all_leave(out_, struck_at_, "supervisor killed: all gone");
    const auto gone = [&] { return std::ranges::none_of(unit_, is_alive); };
    if (job_.until(struck_at_ + leave_deadline, gone))
      return out_.measured("rank killed: its cell gone", base::now() - struck_at_);
    const auto left = static_cast<std::size_t>(std::ranges::count_if(unit_, is_alive));
    out_.left_alive += left;
    out_.problem(fmt::format("{} processes of the struck cell are left", left));
  }

  /// False: it ends instead, and all have left.
  bool comes_back() {
    job_.until(deadline_, [&] { return has_ended() || job_.has_recovered(); });
    if (has_ended())
      return false;
    if (!job_.has_recovered()) {
      out_.problem("neither ended nor came back");
      return false;
    }
    out_.measured("rank killed: serves again", base::now() - struck_at_);
    const auto before = job_.load().counts().done;
    if (const auto asked = job_.begin_to_ask(); !asked)
      out_.problem("asking: " + asked.error().what);
    job_.load().ask_probe();
    if (!job_.until(deadline_, [&] { return has_ended() || job_.load().is_over(); }) || has_ended())
      out_.problem("did not answer after it had come back: " + job_.running().last_line());
    else if (job_.load().counts().done == before)
      out_.problem("answered nothing rightly after it had come back");
    return true;
  }

  void end_by_killing() {
    const auto now = base::now();
    job_.running().signal(SIGKILL);
    job_.see_all_leave(out_, now, "supervisor killed: all gone");
  }

  void judge_end() {
    if (!job_.until(deadline_, [&] { return has_ended(); })) {
      out_.problem("has not ended");
      return;
    }
    const auto code = job_.running().exit_code().value_or(-1);
    if (supervisor_struck_) {
      if (code != 128 + SIGKILL)
        out_.problem(fmt::format("exit code {} of a killed supervisor", code));
      return;
    }
    job_.see_all_leave(out_, job_.running().ended(), "ended: all gone");
    out_.measured("rank killed: ended", job_.running().ended() - struck_at_);
    const auto line = job_.running().last_line();
    if (code == 0 && plan_.when == kill_moment::draining)
      return; // it had nothing left to do
    if (code != 6 || (plan_.when == kill_moment::serving && plan_.victim != setup_.plan.front()))
      out_.problem(fmt::format("exit code {}: {}", code, line));
    else if (!names_cause(line, setup_.plan.rank(plan_.victim).label))
      out_.problem("the last line does not name it: " + line);
  }

  const series_setup& setup_;
  series_job& job_;
  const kill_plan& plan_;
  series_trial& out_;
  time_point deadline_;
  time_point struck_at_;
  bool supervisor_struck_ = false;
  std::vector<pid_t> unit_; ///< what has to go with the victim
};

} // namespace

kill_plan draw_kill(std::uint64_t seed, std::uint32_t trial, const cluster_plan& plan) {
  std::seed_seq mixed{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32), trial};
  std::mt19937_64 random{mixed};
  const auto below = [&](std::uint64_t bound) { return random() % bound; };
  kill_plan out;
  const auto victim = static_cast<std::uint32_t>(below(plan.ranks.size() + 1));
  out.victim = victim == plan.ranks.size() ? supervisor_rank : rank_id{victim};
  const auto when = below(10);
  out.when = when < 4 ? kill_moment::starting : when < 8 ? kill_moment::serving : kill_moment::draining;
  const auto longest = out.when == kill_moment::starting  ? longest_start
                       : out.when == kill_moment::serving ? longest_service
                                                          : longest_drain;
  out.after = std::chrono::microseconds{below(static_cast<std::uint64_t>(longest.count()))};
  return out;
}

result<series_trial> run_kill(const series_setup& setup, std::uint32_t number, const kill_plan& plan) {
  auto job = series_job::launch(setup, {.pages = setup.pages});
  if (!job)
    return tl::unexpected{job.error()};
  series_trial out;
  out.number = number;
  out.what = fmt::format("{} killed {:.1f} ms into {}",
                         plan.victim == supervisor_rank ? "supervisor" : setup.plan.rank(plan.victim).label,
                         static_cast<double>(plan.after.count()) / 1000, name(plan.when));
  kill_trial{setup, **job, plan, out}.run();
  (*job)->conclude(out);
  return out;
}

} // namespace troupe::tools
