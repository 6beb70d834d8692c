#include "tests/sim/schedule.hpp"

#include <fmt/format.h>

#include "protocols/invariant.hpp"
#include "protocols/serve/roles.hpp"
#include "tests/sim/clients.hpp"
#include "tests/sim/links.hpp"
#include "tests/sim/serve_node.hpp"
#include "tests/sim/supervisor.hpp"
#include "tests/sim/world.hpp"

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
  bool torn = false; ///< one rank states another model: no cluster comes of it
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
  if (options.calm)
    run.sky = healed(run.sky);
  run.torn = !options.calm && dice.below(128) == 0;
  run.questions = static_cast<std::size_t>(dice.between(1, options.questions_max));
  run.stormy = run.sky.compute * 8 * run.questions + std::chrono::milliseconds{dice.between(0, 4000)};
  return run;
}

/// Steps until `time`, or until something is wrong.
void run_until(world& all, time_point end, std::uint64_t& events) {
  while (!all.past.violated() && !all.time.empty() && all.time.next() <= end) {
    all.time.step();
    if (++events > events_max)
      all.past.violate("an end", "the run has " + std::to_string(events) + " events and goes on");
  }
  if (!all.past.violated())
    all.time.pass_to(end);
}

/// Pauses, kills and broken lanes, drawn for every rank in each look.
void watch_weather(world& all) {
  if (all.boss->ended())
    return;
  for (const auto& rank : all.ranks) {
    if (!rank || !rank->running)
      continue;
    if (all.dice.chance(all.sky.pause)) {
      const auto pause = all.dice.around(all.sky.pause_for);
      all.judge.on_hurt(rank->self);
      rank->stop_for(pause);
      all.past.note([&] { return rank->label + fmt::format(" is stopped for {} ms", pause.count() / 1'000'000); }, 20,
                    rank->self.value);
    }
    const bool front = all.plan().is_front(rank->self);
    if (all.dice.chance(front ? all.sky.crash / 16 : all.sky.crash)) {
      all.judge.on_hurt(rank->self);
      rank->exit({.how = rank_end::kind::signalled, .number = 9, .words = "Killed"});
    } else if (!rank->edges.empty() && all.dice.chance(all.sky.cut)) {
      auto lane = rank->edges.begin();
      std::advance(lane, all.dice.below(rank->edges.size()));
      const auto [peer, tokens] = lane->first;
      all.judge.on_hurt(rank->self);
      all.judge.on_hurt(peer);
      all.past.say("the lane between " + rank->label + " and " + all.plan().rank(peer).label + " breaks");
      cut_lane(*rank, peer, tokens, {fault::peer_gone, "the lane broke"});
    }
  }
  all.time.after(weather::look, [&all] { watch_weather(all); });
}

std::string held_by(const world& all) {
  std::string words;
  for (const auto& rank : all.ranks)
    if (rank && rank->running && rank->serves)
      if (const auto held = rank->serves->held(); !held.empty())
        words += (words.empty() ? "" : "; ") + rank->label + " has " + held;
  return words;
}

/// A run in its second phase: waits for what must come.
class healing {
public:
  healing(world& all, std::uint64_t& events) : all_(all), events_(events) {
    const auto& t = all.spec().timeouts;
    longest_ = all.ms(t.request_ms) + limits::slot_quarantine + all.ms(t.room_ms) + 2 * all.ms(t.start_ms) + 5s;
  }

  template <class Done, class Words>
  bool await(const char* check, const Done& done, const Words& words) {
    const auto end = all_.time.now() + 2 * longest_;
    while (!done() && !all_.past.violated() && all_.time.now() < end)
      run_until(all_, all_.time.now() + 250ms, events_);
    if (!done())
      all_.past.violate(check, words());
    return !all_.past.violated();
  }

private:
  world& all_;
  std::uint64_t& events_;
  duration longest_{};
};

bool nobody_runs(const world& all) {
  return std::ranges::none_of(all.ranks, [](const auto& rank) { return rank && rank->running; });
}

/// After the faults: the cluster is ready again or has ended; everything ends, nothing is kept, and the next question
/// is answered; told to stop, everybody leaves.
void check_liveness(world& all, std::uint64_t& events) {
  healing phase{all, events};
  const auto over = [&] { return all.boss->ended().has_value(); };
  if (!phase.await(
          "ready or ended", [&] { return over() || all.boss->current() == life_machine::state::ready; },
          [] { return "the cluster neither serves nor ends"; }))
    return;
  phase.await(
      "every question ends", [&] { return all.users->all_ended(); },
      [&] { return all.users->open() + " never end(s); " + held_by(all); });
  if (!all.stormy && !over() && !all.past.violated()) { // what nobody wants any more is let go soon, and by no deadline
    run_until(all, all.time.now() + 2s + all.sky.compute * 100, events);
    if (const auto kept = held_by(all); !kept.empty())
      all.past.violate("nothing is kept long", kept);
  }
  if (!over()) {
    phase.await(
        "nothing is kept", [&] { return over() || held_by(all).empty(); }, [&] { return held_by(all); });
    run_until(all, all.time.now() + limits::slot_quarantine * 5 / 4 + 1s, events); // what rests may rest to its end
    const auto failed = all.users->failed();
    for (int i = 0; i < 4 && !all.past.violated(); ++i) {
      all.users->ask_one();
      phase.await(
          "healed, it answers", [&] { return all.users->all_ended(); },
          [&] { return all.users->open() + " never end(s); " + held_by(all); });
    }
    const auto cells = std::max({all.plan().cells_of(serve_role::prefill).size(),
                                 all.plan().cells_of(serve_role::decode).size(), std::size_t{1}});
    for (std::size_t i = 0; i < cells && !all.past.violated(); ++i)
      all.users->ask_whole();
    phase.await(
        "healed, it answers", [&] { return all.users->all_ended(); },
        [&] { return all.users->open() + " never end(s); " + held_by(all); });
    if (!over() && all.users->failed() > failed)
      all.past.violate("healed, it answers", "a question fails when nothing is wrong any more");
    phase.await(
        "nothing is kept", [&] { return over() || held_by(all).empty(); }, [&] { return held_by(all); });
    if (!over() && !all.past.violated())
      all.boss->stop("the run is over");
    phase.await("told to stop, it ends", over, [] { return "the cluster does not end"; });
    if (over() && !all.past.violated() && all.boss->ended()->how != life_machine::outcome::drained &&
        all.boss->ended()->how != life_machine::outcome::rank_failed)
      all.past.violate("told to stop, it ends", all.boss->ended()->cause);
  }
  phase.await(
      "nobody is left", [&] { return nobody_runs(all); }, [] { return "a rank runs on without a cluster"; });
}

} // namespace

schedule_result run_schedule(const schedule_options& options) {
  auto run = draw_run(options);
  world all{options.seed, std::move(run.cluster), run.sky, options.tells};
  std::uint64_t events = 0;
  all.users->plan(run.questions);
  if (run.torn)
    all.torn = rank_id{static_cast<std::uint32_t>(all.dice.below(all.plan().ranks.size()))};
  all.begin();
  watch_weather(all);
  run_until(all, all.time.now() + run.stormy, events);
  const bool calm = !run.sky.hinders();
  all.sky = healed(all.sky);
  for (const auto& rank : all.ranks)
    if (rank)
      rank->resume();
  all.past.say("from here on nothing goes wrong");
  if (run.sky.late > 0) // what is late already
    run_until(all, all.time.now() + run.sky.late_by * 9, events);
  check_liveness(all, events);
  if (run.torn && all.plan().ranks.size() > 1 && all.boss->was_ready())
    all.past.violate("parity", "ranks that state different models serve together");
  if (calm && !run.torn && (all.users->failed() > 0 || all.boss->recoveries() > 0 || !all.boss->was_ready()))
    all.past.violate("calm, all are answered", "something fails though nothing went wrong");
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
                       sky.late, sky.late_by.count() / 1'000'000, sky.pause, sky.pause_for.count() / 1'000'000,
                       sky.crash, sky.cut, sky.lost_frame, sky.failed_write, sky.cancel, sky.leave, sky.half, sky.flood,
                       run.cluster.spec.lanes.bulk == bulk_lane::fabric ? "fabric" : "shared memory",
                       run.cluster.spec.limits.in_flight_max, run.cluster.spec.limits.row_slots,
                       run.cluster.spec.limits.pixel_slots, run.cluster.spec.limits.kv_tokens_max);
  return words;
}

} // namespace troupe::sim
