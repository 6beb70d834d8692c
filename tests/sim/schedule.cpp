#include "tests/sim/schedule.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "protocols/invariant.hpp"
#include "protocols/serve/roles.hpp"
#include "tests/sim/clients.hpp"
#include "tests/sim/links.hpp"
#include "tests/sim/reach.hpp"
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
  duration gap{};    ///< between two questions, around
  duration stormy{}; ///< until everything heals
  bool torn = false; ///< one rank states another model: no cluster comes of it
  bool floods = false;
  std::optional<duration> stopped_after = {}; ///< told to stop while questions come
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
  for (std::size_t i = 0; i < mischiefs().size(); ++i)
    if ((options.without >> i & 1) != 0)
      run.sky.*mischiefs()[i].chance = 0;
  run.torn = !options.calm && dice.below(128) == 0;
  run.questions = static_cast<std::size_t>(dice.between(1, options.questions_max));
  run.gap = dice.below(6) == 0 ? duration{std::chrono::milliseconds{dice.between(20, 900)}} : run.sky.compute * 8;
  run.stormy = run.gap * run.questions + std::chrono::milliseconds{dice.between(0, 4000)};
  run.floods = !options.calm && !options.spec && options.questions_max >= 24 &&
               run.cluster.spec.limits.in_flight_max > limits::ingests_max / 2;
  if (run.floods)
    run.questions = static_cast<std::size_t>(dice.between(80, 140));
  if (options.storm_max)
    run.stormy = std::min<duration>(run.stormy, *options.storm_max);
  if (!options.calm && dice.below(16) == 0)
    run.stopped_after = dice.below(static_cast<std::uint64_t>(run.stormy.count())) * 1ns;
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

/// Some cells are cut off from the others: nothing comes to them, nothing from them, or neither.
void draw_partition(world& all) {
  std::set<rank_id> cut_off;
  for (const auto& cell : all.plan().cells)
    if (all.dice.below(2) == 0)
      cut_off.insert(cell.ranks.begin(), cell.ranks.end());
  const auto until =
      all.time.now() +
      duration{static_cast<std::int64_t>(all.dice.below(static_cast<std::uint64_t>(all.sky.partition_for.count())))};
  const auto ways = all.dice.below(3);
  for (const auto& one : all.plan().ranks)
    for (const auto& other : all.plan().ranks) {
      if (!cut_off.contains(one.id) || cut_off.contains(other.id))
        continue;
      if (ways != 0)
        all.walls[{one.id, other.id}] = until;
      if (ways != 1)
        all.walls[{other.id, one.id}] = until;
      all.judge.on_hurt(one.id);
      all.judge.on_hurt(other.id);
    }
  all.past.note(
      [&] {
        static constexpr const char* directions[] = {"nothing reaches", "nothing comes from",
                                                     "nothing passes to and from"};
        std::string words = directions[ways];
        for (const auto rank : cut_off)
          words += " " + all.plan().rank(rank).label;
        return words + fmt::format(" for {} ms", (until - all.time.now()) / 1ms);
      },
      25, cut_off.size());
}

/// Pauses, kills and broken lanes, drawn for every rank in each look.
void watch_weather(world& all) {
  if (all.boss->ended())
    return;
  // Ranks of one host share memory, and no network lies between them.
  if (all.spec().lanes.bulk == bulk_lane::fabric && all.dice.chance(all.sky.partition))
    draw_partition(all);
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
      all.judge.on_killed(rank->self);
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
  auto& reach = reach_count::mine();
  reach.begin();
  auto run = draw_run(options);
  world all{options.course == 0 ? options.seed : mix(options.seed, options.course), std::move(run.cluster), run.sky,
            options.tells};
  std::uint64_t events = 0;
  all.users->plan(run.questions);
  if (run.torn)
    all.torn = rank_id{static_cast<std::uint32_t>(all.dice.below(all.plan().ranks.size()))};
  all.floods = run.floods;
  all.gap = run.gap;
  all.begin();
  if (run.stopped_after)
    all.time.after(*run.stopped_after, [&all] {
      if (all.boss->ended())
        return;
      all.told_to_stop = all.boss->was_ready();
      all.boss->stop("somebody wants it down");
    });
  watch_weather(all);
  run_until(all, all.time.now() + run.stormy, events);
  const bool calm = !run.sky.hinders();
  const auto held_up = std::ranges::max_element(all.walls, {}, [](const auto& wall) { return wall.second; });
  const auto latest = held_up == all.walls.end() ? all.time.now() : std::max(all.time.now(), held_up->second);
  all.heal();
  all.past.say("from here on nothing goes wrong");
  run_until(all, latest + (run.sky.late > 0 ? run.sky.late_by * 9 : duration{}), events); // what is late already
  check_liveness(all, events);
  if (run.torn && all.plan().ranks.size() > 1 && all.boss->was_ready())
    all.past.violate("parity", "ranks that state different models serve together");
  if (calm && all.told_to_stop && all.boss->ended() && all.boss->ended()->how != life_machine::outcome::drained)
    all.past.violate("a drain serves", "the drain of a calm cluster ends otherwise: " + all.boss->ended()->cause);
  const bool left_early = run.stopped_after && !all.told_to_stop;
  if (calm && !run.torn && !run.floods && !left_early &&
      (all.users->failed() > 0 || all.boss->recoveries() > 0 || !all.boss->was_ready()))
    all.past.violate("calm, all are answered", "something fails though nothing went wrong");
  if (!reach.stranger().empty())
    all.past.violate("tables", "no table allows " + reach.stranger());
  return {.hash = mix(all.past.hash(), events),
          .steps = all.past.steps(),
          .lasted = all.time.now() - time_line::epoch,
          .ranks = all.plan().ranks.size(),
          .questions = all.users->asked(),
          .answered = all.users->answered(),
          .check = all.past.check(),
          .breach = all.past.breach(),
          .reach = reach.counts(),
          .story = all.past.story()};
}

std::string describe_schedule(const schedule_options& options) {
  const auto run = draw_run(options);
  std::string words = fmt::format("{} questions; ", run.questions);
  for (const auto& pool : run.cluster.spec.pools)
    words += fmt::format("{} {} of {}x{}, ", pool.cells, pool.name, pool.tensor_parallel, pool.pipeline_parallel);
  const auto& limits = run.cluster.spec.limits;
  words +=
      fmt::format("bulk over {}; in flight {}, rows {}, pixels {}, kv {}; all heals after {} ms",
                  run.cluster.spec.lanes.bulk == bulk_lane::fabric ? "a network" : "shared memory",
                  limits.in_flight_max, limits.row_slots, limits.pixel_slots, limits.kv_tokens_max, run.stormy / 1ms);
  if (run.stopped_after)
    words += fmt::format("; told to stop after {} ms", *run.stopped_after / 1ms);
  std::string chances;
  for (const auto& each : mischiefs())
    if (const auto chance = run.sky.*each.chance; chance > 0)
      chances += fmt::format("{}{} {}", chances.empty() ? "" : ", ", each.name, chance);
  if (!chances.empty())
    words += "; of 65536: " + chances;
  return words;
}

} // namespace troupe::sim
