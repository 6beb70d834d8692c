#include "tools/troupe/series_walk.hpp"

#include <signal.h>

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "runtime/base/clock.hpp"
#include "runtime/cluster/control_listener.hpp"
#include "tools/troupe/walk_causes.hpp"
#include "tools/troupe/walk_moves.hpp"

namespace troupe::tools {

using namespace protocols;
using namespace std::chrono_literals;

namespace {

constexpr auto rest_least = 5ms; ///< between two moves
constexpr auto rest_most = 180ms;
constexpr auto news_period = 5s;
constexpr auto inject_deadline = 3s;
constexpr std::size_t clients_most = 48; ///< of the crowd at a time
constexpr std::uint32_t asked_most = 4;  ///< in one move

class walk_run {
public:
  walk_run(const series_setup& setup, const std::vector<known_question>& questions, const walk_plan& plan,
           series_job& job, const std::function<void(std::string_view)>& progress)
      : setup_(setup), questions_(questions), plan_(plan), job_(job), progress_(progress),
        crowd_(questions, job.running().file("front.sock").string(), setup.plan.front()), causes_(setup.plan) {
    std::seed_seq mixed{static_cast<std::uint32_t>(plan.seed), static_cast<std::uint32_t>(plan.seed >> 32),
                        plan.number};
    random_.seed(mixed);
  }

  walk_result run() {
    out_.number = plan_.number;
    out_.seed = plan_.seed;
    const auto ready = [&] { return job_.running().is_ready() || has_ended(); };
    if (!job_.until(job_.launched() + hang_deadline, ready) || has_ended())
      problem("was not ready: " + job_.running().last_line());
    else
      walk();
    return finish();
  }

private:
  struct pause {
    rank_id rank;
    pid_t pid;
    time_point began;
    time_point ends;
  };

  void problem(std::string text) { out_.problems.push_back(std::move(text)); }
  bool has_ended() { return job_.running().has_ended(); }

  void walk() {
    const auto began = base::now();
    while (base::now() < began + plan_.length && !has_ended()) {
      const auto move = draw_move(random_);
      make(move);
      ++out_.moves[std::string{name(move)}];
      pass(draw_span(random_, rest_least, rest_most));
      tell(began);
    }
    out_.lasted = base::now() - began;
    end();
  }

  /// Whatever is waited for, the crowd hears what it is answered, and who was stopped long enough goes on.
  void poll() {
    const auto now = base::now();
    crowd_.step(now);
    see_off(now);
    end_pauses(now);
    causes_.read(job_.running().printed(), now);
  }
  bool until(time_point deadline, const std::function<bool()>& what) {
    return job_.until(deadline, [&] {
      poll();
      return what();
    });
  }
  void pass(duration time) {
    (void)until(base::now() + time, [&] { return has_ended(); }); // whether it has ended, its callers ask
  }

  void make(walk_move move) {
    switch (move) {
    case walk_move::ask: // what the front would only refuse is left to the overload
      if (crowd_.open() < setup_.settings.limits.in_flight_max)
        ask(1 + static_cast<std::uint32_t>(random_() % asked_most));
      return;
    case walk_move::leave:
      if (const auto who = somebody())
        (void)crowd_.leave(*who); // `somebody` is present
      return;
    case walk_move::give_up:
      return give_up();
    case walk_move::cancel:
      if (const auto who = somebody())
        (void)crowd_.cancel(*who); // what has ended needs none
      return;
    case walk_move::overload:
      for (std::uint32_t i = 0; i < 2 * setup_.settings.limits.in_flight_max / asked_most; ++i)
        ask(asked_most);
      return;
    case walk_move::kill:
      return kill(draw_victim(random_, setup_.plan));
    case walk_move::pause:
      return stop_somebody();
    case walk_move::slow_step:
      return inject(draw_slow_step(random_, setup_.plan));
    case walk_move::late_message:
      return inject(draw_late_message(random_, setup_.plan));
    case walk_move::late_completion:
      return inject(draw_late_completion(random_, setup_.plan));
    }
  }

  void give_up() {
    const auto who = next_client_++;
    if (crowd_.open() < setup_.settings.limits.in_flight_max && crowd_.ask(who, random_() % questions_.size()))
      leaving_.emplace(base::now() + draw_span(random_, 0ms, 600ms), who);
  }
  void see_off(time_point now) {
    for (auto next = leaving_.begin(); next != leaving_.end() && next->first <= now; next = leaving_.erase(next))
      (void)crowd_.leave(next->second); // it may have been sent off by the end of its connection
  }

  std::optional<drill_crowd::client_id> somebody() {
    const auto present = crowd_.present();
    return present.empty() ? std::nullopt : std::optional{present[random_() % present.size()]};
  }

  /// Half of the time by somebody new; by somebody who is there where enough are.
  void ask(std::uint32_t count) {
    const auto known = somebody();
    const bool comes = !known || (random_() % 2 == 0 && crowd_.present().size() < clients_most);
    const auto who = comes ? next_client_++ : *known;
    for (std::uint32_t i = 0; i < count; ++i)
      if (const auto asked = crowd_.ask(who, random_() % questions_.size()); !asked)
        return;
  }

  void kill(const rank_plan& victim) {
    const auto ranks = job_.running().ranks();
    const auto found = ranks.find(victim.id);
    if (found == ranks.end())
      return; // it is being started anew
    causes_.struck(victim.id, base::now());
    ::kill(found->second, SIGKILL);
  }

  /// Of the front and the supervisor, who are not started anew, below their bounds.
  void stop_somebody() {
    const auto drawn = random_() % (setup_.plan.ranks.size() + 1);
    const auto kind = random_() % 10;
    const auto& timeouts = setup_.settings.timeouts;
    const auto most = std::chrono::milliseconds{timeouts.kill_ms / 2};
    if (drawn == setup_.plan.ranks.size())
      return stop(supervisor_rank, job_.running().pid(), draw_span(random_, 20ms, most));
    const rank_id rank{static_cast<std::uint32_t>(drawn)};
    const auto ranks = job_.running().ranks();
    const auto found = ranks.find(rank);
    if (found == ranks.end())
      return;
    const bool for_good = kind == 0 && rank != setup_.plan.front();
    const auto span = for_good   ? std::chrono::milliseconds{timeouts.kill_ms} + draw_span(random_, 500ms, 3000ms)
                      : kind < 7 ? draw_span(random_, 10ms, 300ms)
                                 : draw_span(random_, 300ms, most);
    stop(rank, found->second, span);
  }

  void stop(rank_id rank, pid_t pid, duration span) {
    if (std::ranges::find(pauses_, pid, &pause::pid) != pauses_.end())
      return;
    const auto now = base::now();
    ::kill(pid, SIGSTOP);
    pauses_.push_back({rank, pid, now, now + span});
  }

  /// Longer than its bound, or about: also where whoever was to end the pause was late itself.
  bool must_fall(const pause& each, time_point now) const {
    const auto& timeouts = setup_.settings.timeouts;
    return now - each.began >= std::chrono::milliseconds{timeouts.kill_ms - 2 * timeouts.heartbeat_ms};
  }

  /// A process that has died meanwhile is left alone: its number may be somebody else's.
  void end_pauses(time_point now) {
    for (const auto& each : pauses_)
      if (must_fall(each, now))
        causes_.struck(each.rank, now);
    const auto due = [&](const pause& each) { return each.ends <= now; };
    if (std::ranges::none_of(pauses_, due))
      return;
    const auto ranks = job_.running().ranks();
    for (const auto& each : pauses_)
      if (due(each)) {
        const auto found = ranks.find(each.rank);
        if (each.rank == supervisor_rank)
          job_.running().signal(SIGCONT);
        else if (found != ranks.end() && found->second == each.pid)
          ::kill(each.pid, SIGCONT);
      }
    std::erase_if(pauses_, due);
  }

  void inject(const cluster::written_rule& rule) {
    if (std::ranges::find(pauses_, supervisor_rank, &pause::rank) != pauses_.end())
      return; // it would take the order when it goes on
    const auto order = cluster::resolve_rule(rule, setup_.plan);
    if (!order)
      return problem("a rule of the walk: " + order.error().what);
    const auto taken =
        cluster::order_injection(job_.running().file("control.sock").string(), *order, base::now() + inject_deadline);
    if (!taken)
      ++out_.moves["(order not taken)"];
    if (rule.action == "delay" && rule.ms > setup_.settings.timeouts.suspect_ms) // with the next one it may be too long
      for (const auto rank : {order->rank, order->rule.peer})
        causes_.struck(rank, base::now());
  }

  void tell(time_point began) {
    if (base::now() < next_news_)
      return;
    next_news_ = base::now() + news_period;
    const auto& counts = crowd_.counts();
    progress_(fmt::format("walk {}, {} of {} s: {} asked, {} right, {} wrong, {} doubled, {} cells started anew",
                          plan_.number, (base::now() - began) / 1s, plan_.length / 1s, counts.asked, counts.right,
                          counts.wrong, counts.doubled, causes_.restarts()));
  }

  void end() {
    if (has_ended()) {
      causes_.read_end(job_.running().last_line(), base::now());
      return problem("ended by itself: " + job_.running().last_line());
    }
    const auto deadline = base::now() + std::chrono::milliseconds{setup_.settings.timeouts.request_ms} + hang_deadline;
    if (!until(deadline, [&] { return (crowd_.open() == 0 && pauses_.empty()) || has_ended(); }))
      problem(fmt::format("{} questions have not ended", crowd_.open()));
    const auto told_at = base::now();
    job_.running().signal(SIGTERM);
    if (!until(deadline + hang_deadline, [&] { return has_ended(); }))
      problem("has not ended");
    series_trial leaving;
    job_.see_all_leave(leaving, std::max(told_at, has_ended() ? job_.running().ended() : told_at), "teardown");
    out_.left_alive = leaving.left_alive;
    std::ranges::move(leaving.problems, std::back_inserter(out_.problems));
    if (job_.running().exit_code() != 0)
      problem(fmt::format("exit code {}: {}", job_.running().exit_code().value_or(-1), job_.running().last_line()));
  }

  walk_result finish() {
    poll();
    out_.answers = crowd_.conclude();
    out_.causes = crowd_.causes();
    out_.restarts = causes_.restarts();
    out_.causes_judged = causes_.judged();
    out_.causes_right = causes_.right();
    if (out_.betrayed())
      problem(
          fmt::format("{} wrong, {} lost, {} doubled", out_.answers.wrong, out_.answers.lost, out_.answers.doubled));
    for (const auto& complaint : crowd_.complaints())
      problem(complaint);
    out_.blamed_wrong = causes_.wrong_lines();
    if (out_.answers.right == 0)
      problem("nothing was answered to its end");
    if (!out_.passed())
      out_.kept = job_.keep().string();
    return std::move(out_);
  }

  const series_setup& setup_;
  const std::vector<known_question>& questions_;
  const walk_plan& plan_;
  series_job& job_;
  const std::function<void(std::string_view)>& progress_;
  drill_crowd crowd_;
  walk_causes causes_;
  walk_random random_;
  std::vector<pause> pauses_;
  std::multimap<time_point, drill_crowd::client_id> leaving_; ///< who asked to give up, and when it goes
  drill_crowd::client_id next_client_ = 1;
  time_point next_news_;
  walk_result out_;
};

} // namespace

result<walk_result> run_walk(const series_setup& setup, const std::vector<known_question>& questions,
                             const walk_plan& plan, const std::function<void(std::string_view)>& progress) {
  auto job = series_job::launch(setup, {});
  if (!job)
    return tl::unexpected{job.error()};
  return walk_run{setup, questions, plan, **job, progress}.run();
}

} // namespace troupe::tools
