#include "schedule.hpp"

#include <fmt/format.h>

#include "clients.hpp"
#include "protocols/invariant.hpp"
#include "serve_node.hpp"
#include "world.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

/// Far above what any run takes.
constexpr std::uint64_t events_max = 20'000'000;

struct drawn_run {
  sim_cluster cluster;
  weather sky;
  std::size_t questions = 0;
  duration stormy{}; ///< until everything heals
};

drawn_run draw_run(const schedule_options& options) {
  draw dice{mix(options.seed, 0x5EED)};
  drawn_run run;
  auto of_cluster = dice.split(1);
  auto of_sky = dice.split(2);
  if (options.spec) {
    auto made = cluster_of(*options.spec);
    TROUPE_ASSERT("spec", made.has_value());
    run.cluster = *std::move(made);
  } else
    run.cluster = draw_cluster(of_cluster, static_cast<std::uint32_t>(of_cluster.between(3, options.ranks_max)));
  run.sky = draw_weather(of_sky);
  run.sky.crash = run.sky.cut = run.sky.lost_frame = 0;
  if (options.calm)
    run.sky = healed(run.sky);
  run.questions = static_cast<std::size_t>(dice.between(1, options.questions_max));
  run.stormy = run.sky.compute * 8 * run.questions + std::chrono::milliseconds{dice.between(0, 4000)};
  return run;
}

/// Steps until `time`, or until something is wrong.
void run_until(world& all, time_point end, std::uint64_t& events) {
  while (!all.past.violated() && !all.time.empty() && all.time.next() <= end) {
    all.time.step();
    if (++events > events_max)
      all.past.violate(all.time.now(), "an end", "the run has " + std::to_string(events) + " events and goes on");
  }
}

/// Pauses, kills and broken lanes, drawn for every rank in each look.
void watch_weather(world& all) {
  for (const auto& rank : all.ranks)
    if (rank && all.dice.chance(all.sky.pause)) {
      const auto pause = all.dice.around(all.sky.pause_for);
      rank->stop_for(pause);
      all.past.note(
          all.time.now(),
          [&] { return rank->label + fmt::format(" is stopped for {} ms", pause.count() / 1'000'000); }, 20,
          rank->self.value);
    }
  all.time.after(weather::look, [&all] { watch_weather(all); });
}

std::string held_by(const world& all) {
  std::string words;
  for (const auto& rank : all.ranks)
    if (rank && rank->serves)
      if (const auto held = rank->serves->held(); !held.empty())
        words += (words.empty() ? "" : "; ") + rank->label + " has " + held;
  return words;
}

/// After the faults: everything ends, nothing is kept, and the next question is answered.
void check_liveness(world& all, std::uint64_t& events) {
  const auto& t = all.spec().timeouts;
  const auto longest = all.ms(t.request_ms) + limits::slot_quarantine + all.ms(t.room_ms) + 5s;
  const auto until = [&](const char* check, const auto& done, const auto& words) {
    const auto end = all.time.now() + 2 * longest;
    while (!done() && !all.past.violated() && all.time.now() < end)
      run_until(all, all.time.now() + 250ms, events);
    if (!done())
      all.past.violate(all.time.now(), check, words());
  };
  until("every question ends", [&] { return all.users->all_ended(); },
        [&] { return all.users->open() + " never end(s); " + held_by(all); });
  until("nothing is kept", [&] { return held_by(all).empty(); }, [&] { return held_by(all); });
  const auto failed = all.users->failed();
  for (int i = 0; i < 4 && !all.past.violated(); ++i) {
    all.users->ask_one();
    until("healed, it answers", [&] { return all.users->all_ended(); },
          [&] { return all.users->open() + " never end(s)"; });
  }
  if (all.users->failed() > failed)
    all.past.violate(all.time.now(), "healed, it answers", "a question fails when nothing is wrong any more");
  until("nothing is kept", [&] { return held_by(all).empty(); }, [&] { return held_by(all); });
}

} // namespace

schedule_result run_schedule(const schedule_options& options) {
  auto run = draw_run(options);
  world all{options.seed, std::move(run.cluster), run.sky, options.tells};
  std::uint64_t events = 0;
  all.begin();
  all.users->plan(run.questions);
  watch_weather(all);
  run_until(all, all.time.now() + run.stormy, events);
  const bool calm = !run.sky.hinders();
  all.sky = healed(all.sky);
  for (const auto& rank : all.ranks)
    if (rank)
      rank->resume();
  all.past.say(all.time.now(), "from here on nothing goes wrong");
  check_liveness(all, events);
  if (calm && all.users->failed() > 0)
    all.past.violate(all.time.now(), "calm, all are answered", "a question fails though nothing went wrong");
  return {.hash = mix(all.past.hash(), events),
          .steps = all.past.steps(),
          .lasted = all.time.now() - time_line::epoch,
          .ranks = all.plan().ranks.size(),
          .questions = all.users->asked(),
          .answered = all.users->answered(),
          .check = all.past.check(),
          .breach = all.past.breach(),
          .story = all.past.story()};
}

std::string describe_schedule(const schedule_options& options) {
  const auto run = draw_run(options);
  std::string words = fmt::format("{} questions; ", run.questions);
  for (const auto& pool : run.cluster.spec.pools)
    words += fmt::format("{} {} of {}x{}, ", pool.cells, pool.name, pool.tensor_parallel, pool.pipeline_parallel);
  const auto& sky = run.sky;
  words += fmt::format("late {} by {} ms, pause {} for {} ms, crash {}, cut {}, lost frames {}, failed writes {}, "
                       "cancel {}, leave {}, half {}, flood {}; bulk {}, in flight {}, rows {}, pixels {}, kv {}",
                       sky.late, sky.late_by.count() / 1'000'000, sky.pause, sky.pause_for.count() / 1'000'000, sky.crash,
                       sky.cut, sky.lost_frame, sky.failed_write, sky.cancel, sky.leave, sky.half, sky.flood,
                       run.cluster.spec.lanes.bulk == bulk_lane::fabric ? "fabric" : "shared memory",
                       run.cluster.spec.limits.in_flight_max, run.cluster.spec.limits.row_slots,
                       run.cluster.spec.limits.pixel_slots, run.cluster.spec.limits.kv_tokens_max);
  return words;
}

} // namespace troupe::sim
