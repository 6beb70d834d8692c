#include "tools/troupe/drill_run.hpp"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "runtime/base/clock.hpp"
#include "runtime/cluster/control_listener.hpp"
#include "runtime/cluster/spec_file.hpp"
#include "tools/troupe/checked_spec.hpp"
#include "tools/troupe/drill_cluster.hpp"
#include "tools/troupe/drill_folder.hpp"
#include "tools/troupe/drill_scene.hpp"

namespace troupe::tools {

using namespace protocols;
using namespace std::chrono_literals;
using cluster::drill_moment;
using cluster::drill_outcome;

namespace {

constexpr auto look_period = 5ms;
constexpr auto leave_deadline = 5s;   ///< nothing of a job lives this long after its end
constexpr auto last_words = 1s;       ///< of the front to those who asked
constexpr auto drain_grace = 10s;     ///< above the drain of a drill's spec
constexpr auto stuck_patience = 2s;   ///< for a start whose supervisor was stopped
constexpr auto strike_patience = 10s; ///< for an end that was to come by itself
constexpr auto inject_deadline = 2s;  ///< for the supervisor's answer
const std::string job = "drill";

std::string text_of(const cluster::written_rule& rule) {
  std::string text;
  const cluster::written_rule plain;
  for (const auto& key : cluster::rule_keys()) {
    const auto value = key.get(rule);
    if (value != key.get(plain))
      text += fmt::format("{}{}={}", text.empty() ? "" : ",", key.name,
                          std::holds_alternative<std::string>(value) ? std::get<std::string>(value)
                                                                     : std::to_string(std::get<std::uint64_t>(value)));
  }
  return text;
}

class drill_runner {
public:
  drill_runner(const cluster::drill& what, cluster_plan plan, drill_cluster running,
               const std::function<void(std::string_view)>& progress)
      : what_(what), plan_(std::move(plan)), running_(std::move(running)), load_(what), progress_(progress),
        deadline_(base::now() + std::chrono::milliseconds{what.deadline_ms}) {
    for (const auto& event : what.events)
      if (event.when != drill_moment::launch)
        pending_.push_back(&event);
    if (!what.scene.empty())
      scene_.emplace(what, plan_, running_);
  }

  drill_result run() {
    while (base::now() < deadline_ && !is_over())
      step();
    if (!is_over())
      problem(fmt::format("not over after {} ms: {}", what_.deadline_ms, where()));
    settle();
    judge();
    return std::move(out_);
  }

private:
  void problem(std::string text) { out_.problems.push_back(std::move(text)); }

  std::string where() const {
    if (!running_.is_ready())
      return "starting";
    if (scene_ && !draining_)
      return scene_->where();
    return draining_ ? "draining" : fmt::format("{} of {} questions have ended", ended_questions(), total_questions());
  }
  std::size_t ended_questions() const {
    const auto& counts = load_.counts();
    return counts.done + counts.failed + counts.refused;
  }
  std::size_t total_questions() const { return what_.pages.size() * what_.load.repeat; }

  bool is_over() const {
    return running_.has_ended() && (what_.expect.outcome != drill_outcome::killed || nothing_left_);
  }

  void step() {
    wait();
    running_.poll();
    const auto now = base::now();
    if (running_.is_ready() && !ready_at_)
      ready_at_ = now;
    inject_what_is_due(now);
    if (scene_)
      play(now);
    const bool asks = !scene_ && ready_at_ && now >= *ready_at_ + std::chrono::milliseconds{what_.load.after_ms} &&
                      pending_at(drill_moment::ready) == 0;
    if (asks && !std::exchange(asks_, true) && !running_.has_ended()) {
      // Where the end is what is to be seen, it may come before the first question.
      const auto connected = load_.connect(running_.file("front.sock").string(), plan_.front());
      if (!connected && what_.expect.outcome != drill_outcome::ended && what_.expect.outcome != drill_outcome::killed)
        problem("asking: " + connected.error().what);
    }
    if (asks)
      load_.step(now);
    if (load_.has_token() && !token_at_)
      token_at_ = now;
    watch_recovery(now);
    drain_when_it_is_time(now);
    if (running_.has_ended())
      nothing_left_ = running_.alive().empty();
    progress_(fmt::format("{}: {}", what_.name, where()));
  }

  void play(time_point now) {
    if (!ready_at_ || running_.has_ended())
      return;
    asks_ = true;
    scene_->step(now);
    if (const auto broken = scene_->take_problem())
      problem(*broken);
  }

  void wait() {
    std::vector<pollfd> fds;
    for (const int fd : running_.waitables())
      fds.push_back({fd, POLLIN, 0});
    ::poll(fds.data(), fds.size(), static_cast<int>(look_period / 1ms));
  }

  std::size_t pending_at(drill_moment when) const {
    return static_cast<std::size_t>(std::ranges::count(pending_, when, [](const auto* event) { return event->when; }));
  }

  void inject_what_is_due(time_point now) {
    std::erase_if(pending_, [&](const cluster::drill_event* event) {
      const auto& since = event->when == drill_moment::ready ? ready_at_ : token_at_;
      if (!since || now < *since + std::chrono::milliseconds{event->after_ms} || running_.has_ended())
        return false;
      const auto order = cluster::resolve_rule(event->rule, plan_);
      const auto taken =
          order ? cluster::order_injection(running_.file("control.sock").string(), *order, now + inject_deadline)
                : result<void>{tl::unexpected{order.error()}};
      // A supervisor that was struck just now cannot answer any more.
      if (!taken && !(order && order->rank == supervisor_rank))
        problem("injecting: " + taken.error().what);
      return true;
    });
  }

  /// A cell is back when every rank of a later generation is ready again.
  void watch_recovery(time_point now) {
    if (what_.expect.outcome != drill_outcome::recovered || recovered_at_ || !ready_at_)
      return;
    if (!has_recovered(running_.status()))
      return;
    recovered_at_ = now;
    done_before_ = load_.counts().done;
    load_.ask_probe();
  }

  /// Of a supervisor that was stopped while its ranks started or left: nobody below it will end it.
  bool is_stuck(time_point now) const {
    if (what_.expect.outcome != drill_outcome::killed || (ready_at_ && !draining_))
      return false;
    const auto strikes = running_.strikes();
    return !strikes.empty() && now >= strikes.front().at + stuck_patience;
  }

  void drain_when_it_is_time(time_point now) {
    if (!put_down_ && is_stuck(now)) {
      put_down_ = draining_ = true;
      running_.signal(SIGKILL);
    }
    if (draining_ || !ready_at_ || running_.has_ended())
      return;
    const bool early = what_.load.end == cluster::drill_end::drain_early && load_.has_token();
    const bool over = asks_ && (scene_ ? scene_->is_over() : load_.is_over());
    const bool waits_for_recovery =
        what_.expect.outcome == drill_outcome::recovered && !recovered_at_ && now < deadline_ - drain_grace;
    if (over && !load_over_at_)
      load_over_at_ = now;
    const bool strikes_later = !pending_.empty() || (over && awaits_end(now));
    if (!early && (!over || waits_for_recovery || strikes_later))
      return;
    draining_ = true;
    if (!early)
      drained_at_ = now;
    running_.signal(what_.load.end == cluster::drill_end::kill ? SIGKILL : SIGTERM);
  }

  /// The end may come after everything has been answered; one that never comes is no reason to wait for ever.
  bool awaits_end(time_point now) const {
    const bool ends_by_itself =
        what_.expect.outcome == drill_outcome::ended ||
        (what_.expect.outcome == drill_outcome::killed && what_.load.end != cluster::drill_end::kill);
    return ends_by_itself && now < *load_over_at_ + strike_patience;
  }

  /// The end has been seen; now nothing may be left.
  void settle() {
    const auto until = base::now() + leave_deadline;
    auto alive = running_.alive();
    while (!alive.empty() && running_.has_ended() && base::now() < until) {
      ::poll(nullptr, 0, static_cast<int>(look_period / 1ms));
      alive = running_.alive();
    }
    all_left_at_ = base::now();
    out_.left_alive = alive.size();
    // A process that is ending lets its memory go before its sockets, so the last word may still be on its way.
    const auto told_by = base::now() + last_words;
    while (load_.is_connected() && base::now() < told_by) {
      load_.step(base::now());
      ::poll(nullptr, 0, static_cast<int>(look_period / 1ms));
    }
  }

  void judge() {
    const auto& expect = what_.expect;
    out_.name = what_.name;
    out_.load = scene_ ? scene_->conclude() : load_.conclude();
    out_.exit_code = running_.exit_code();
    out_.last_line = running_.last_line();
    measure();
    const bool was_to_strike = !what_.events.empty() || (scene_ && scene_->injects());
    if (!out_.struck && was_to_strike)
      problem("the fault has not struck");
    if (out_.load.lost != 0 || out_.load.wrong != 0 || out_.load.duplicates != 0)
      problem(fmt::format("{} lost, {} wrong, {} doubled", out_.load.lost, out_.load.wrong, out_.load.duplicates));
    for (const auto& complaint : scene_ ? scene_->complaints() : load_.complaints())
      problem(complaint);
    if (out_.left_alive != 0)
      problem(fmt::format("{} processes are left", out_.left_alive));
    judge_outcome();
    if (!expect.cause.empty() && out_.exit_code != 0) {
      out_.cause_right = names_cause(out_.last_line, expect.cause);
      if (!*out_.cause_right)
        problem(fmt::format("the last line does not name {}: {}", expect.cause, out_.last_line));
    }
    judge_time("detected", out_.detected, expect.detect_ms);
    judge_time("over", out_.over, expect.over_ms);
    out_.passed = out_.problems.empty();
  }

  void judge_outcome() {
    const auto& expect = what_.expect;
    const auto code = out_.exit_code.value_or(-1);
    switch (expect.outcome) {
    case drill_outcome::recovered:
      if (!recovered_at_)
        problem("the cell did not come back");
      else if (load_.counts().done <= done_before_)
        problem("nothing was answered after the cell had come back");
      [[fallthrough]];
    case drill_outcome::served:
      if (code != 0)
        problem(fmt::format("exit code {}: {}", code, out_.last_line));
      if (out_.load.failed + out_.load.refused > expect.failed_max)
        problem(fmt::format("{} requests failed, {} were refused; at most {}", out_.load.failed, out_.load.refused,
                            expect.failed_max));
      break;
    case drill_outcome::ended:
      if (code != static_cast<int>(expect.exit_code))
        problem(fmt::format("exit code {}, not {}: {}", code, expect.exit_code, out_.last_line));
      break;
    case drill_outcome::settled:
      if (code != 0 && code != static_cast<int>(expect.exit_code))
        problem(fmt::format("exit code {}, neither 0 nor {}: {}", code, expect.exit_code, out_.last_line));
      break;
    case drill_outcome::killed:
      if (code < 128)
        problem(fmt::format("the supervisor ended by itself, exit code {}: {}", code, out_.last_line));
      break;
    }
  }

  void measure() {
    std::optional<time_point> struck;
    for (const auto& line : running_.strikes()) {
      if (!line.notice && !struck)
        struck = line.at;
      const bool of_drain = drained_at_ && line.at > *drained_at_; // ranks that leave on order are no fault
      if (line.notice && struck && !out_.detected && !of_drain)
        out_.detected = line.at - *struck;
    }
    out_.struck = struck.has_value();
    if (!struck)
      return;
    if (what_.expect.outcome == drill_outcome::recovered && recovered_at_)
      out_.over = *recovered_at_ - *struck;
    else if (what_.expect.outcome == drill_outcome::killed)
      out_.over = all_left_at_ - *struck;
    else if (what_.expect.outcome == drill_outcome::ended && running_.has_ended())
      out_.over = running_.ended() - *struck;
  }

  void judge_time(std::string_view what, const std::optional<duration>& took, std::uint32_t most_ms) {
    if (most_ms == 0 || (took && *took <= std::chrono::milliseconds{most_ms}))
      return;
    problem(took ? fmt::format("{} after {} ms, at most {}", what, *took / 1ms, most_ms)
                 : fmt::format("never {}", what));
  }

  const cluster::drill& what_;
  cluster_plan plan_;
  drill_cluster running_;
  drill_load load_;
  std::optional<drill_scene> scene_; ///< in the load's place
  const std::function<void(std::string_view)>& progress_;
  time_point deadline_;
  std::vector<const cluster::drill_event*> pending_;
  std::optional<time_point> ready_at_;
  std::optional<time_point> token_at_;
  std::optional<time_point> recovered_at_;
  time_point all_left_at_;
  std::size_t done_before_ = 0;
  std::optional<time_point> load_over_at_;
  std::optional<time_point> drained_at_; ///< of a drain that nothing was to fall into
  bool put_down_ = false;                ///< the supervisor, by this runner
  bool asks_ = false;
  bool draining_ = false;
  bool nothing_left_ = false;
  drill_result out_;
};

/// What a drill's cluster is launched with.
struct launch_plan {
  cluster_plan plan;
  std::vector<std::string> rules;
};
result<launch_plan> plan_launch(const cluster::drill& what) {
  const auto spec = cluster::read_spec(what.spec);
  if (!spec)
    return tl::unexpected{spec.error()};
  if (!what.pages.empty())
    if (const auto serves = check_serves(spec->spec, what.spec.string(), "a drill that asks"); !serves)
      return tl::unexpected{serves.error()};
  auto plan = make_plan(spec->spec);
  if (!plan)
    return tl::unexpected{plan.error()};
  if (!spec->spec.drills)
    return fail(fault::config_invalid, what.spec.string() + ": a drill's spec says \"drills\": true");
  std::vector<std::string> rules;
  for (const auto& event : what.events) {
    if (auto known = cluster::resolve_rule(event.rule, *plan); !known)
      return fail(fault::config_invalid, what.name + ": " + known.error().what);
    if (event.when == drill_moment::launch)
      rules.push_back(text_of(event.rule));
  }
  for (const auto& act : what.scene)
    if (act.act == cluster::scene_act::inject)
      if (auto known = cluster::resolve_rule(act.rule, *plan); !known)
        return fail(fault::config_invalid, what.name + ": " + known.error().what);
  return launch_plan{std::move(*plan), std::move(rules)};
}

} // namespace

bool names_cause(std::string_view line, std::string_view causes) {
  constexpr std::string_view prefix = "first cause: ";
  constexpr std::string_view between = " or ";
  if (const auto at = line.find(prefix); at != std::string_view::npos)
    line = line.substr(at, line.find(')', at) - at); // who waited for it, and who says so, comes after it
  while (true) {                                     // ends with the last of them
    const auto end = causes.find(between);
    if (line.find(causes.substr(0, end)) != std::string_view::npos)
      return true;
    if (end == std::string_view::npos)
      return false;
    causes.remove_prefix(end + between.size());
  }
}

result<void> check_drill(const cluster::drill& what) {
  return plan_launch(what).map([](const auto&) {});
}

result<drill_result> run_drill(const cluster::drill& what, keep_jobs keep,
                               const std::function<void(std::string_view)>& progress) {
  auto launching = plan_launch(what);
  if (!launching)
    return tl::unexpected{launching.error()};
  drill_folder folder;
  if (folder.path().empty())
    return fail(fault::config_invalid, "cannot make a folder under /tmp");
  auto running = drill_cluster::launch(what.spec, job, folder.path(), launching->rules);
  if (!running)
    return tl::unexpected{running.error()};
  auto out = drill_runner{what, std::move(launching->plan), std::move(*running), progress}.run();
  if (!out.passed || keep == keep_jobs::all) {
    folder.keep();
    out.kept = (folder.path() / job).string();
  }
  return out;
}

} // namespace troupe::tools
