#include "tools/troupe/drill_scene.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/base/clock.hpp"
#include "runtime/cluster/control_listener.hpp"

namespace troupe::tools {

using namespace protocols;
using cluster::scene_act;

namespace {

constexpr std::chrono::seconds inject_deadline{10};

std::vector<known_question> questions_of(const cluster::drill& what, std::optional<std::string>& problem) {
  std::vector<known_question> out;
  for (const auto& page : what.pages) {
    auto question = question_of(page);
    if (!question)
      problem = question.error().what;
    out.push_back({.shown = page.image.filename().string() + ": " + page.prompt,
                   .what = question.value_or(embed::question{}),
                   .answer = page.answer,
                   .text = {}});
  }
  return out;
}

} // namespace

drill_scene::drill_scene(const cluster::drill& what, const cluster_plan& plan, const drill_cluster& running)
    : what_(what), plan_(plan), running_(running), questions_(questions_of(what, problem_)),
      crowd_(questions_, running.file("front.sock").string(), plan.front()) {}

void drill_scene::step(time_point now) {
  crowd_.step(now);
  if (!before_)
    before_ = now;
  while (next_ < what_.scene.size()) {
    const auto& act = what_.scene[next_];
    if (now < *before_ + std::chrono::milliseconds{act.after_ms} || !play(act))
      return;
    before_ = base::now();
    ++next_;
  }
}

bool drill_scene::play(const cluster::drill_act& act) {
  switch (act.act) {
  case scene_act::ask:
    ask(act);
    return true;
  case scene_act::leave:
    (void)crowd_.leave(act.client); // a scene may see off somebody who has gone
    return true;
  case scene_act::cancel:
    (void)crowd_.cancel(act.client); // or cancel what has ended
    return true;
  case scene_act::inject:
    inject(act);
    return true;
  case scene_act::until_token:
    return crowd_.has_token();
  case scene_act::until_struck:
    return strikes() > struck_before_;
  case scene_act::until_recovered:
    return has_recovered(running_.status());
  case scene_act::until_answered:
    return crowd_.open() == 0;
  }
  return true;
}

void drill_scene::ask(const cluster::drill_act& act) {
  if (const auto asked = crowd_.ask(act.client, act.page); !asked)
    problem_ = "asking: " + asked.error().what;
}

void drill_scene::inject(const cluster::drill_act& act) {
  const auto order = cluster::resolve_rule(act.rule, plan_);
  struck_ = order ? order->rank : plan_.front();
  struck_before_ = strikes();
  const auto taken =
      order ? cluster::order_injection(running_.file("control.sock").string(), *order, base::now() + inject_deadline)
            : result<void>{tl::unexpected{order.error()}};
  if (!taken)
    problem_ = "injecting: " + taken.error().what;
}

std::size_t drill_scene::strikes() const {
  const auto lines = running_.strikes();
  return static_cast<std::size_t>(
      std::ranges::count_if(lines, [&](const auto& line) { return !line.notice && line.rank == struck_; }));
}

bool drill_scene::is_over() const {
  return next_ == what_.scene.size() && crowd_.open() == 0;
}

bool drill_scene::injects() const {
  return std::ranges::any_of(what_.scene, [](const auto& act) { return act.act == scene_act::inject; });
}

std::string drill_scene::where() const {
  return fmt::format("{} of {} acts played, {} questions open", next_, what_.scene.size(), crowd_.open());
}

load_counts drill_scene::conclude() const {
  const auto counts = crowd_.conclude();
  return {.asked = counts.asked,
          .done = counts.right,
          .failed = counts.failed,
          .refused = counts.refused,
          .lost = counts.lost,
          .wrong = counts.wrong,
          .duplicates = counts.doubled};
}

} // namespace troupe::tools
