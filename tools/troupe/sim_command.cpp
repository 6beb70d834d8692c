#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <thread>

#include "tests/sim/batch.hpp"
#include "tests/sim/corpus.hpp"
#include "tests/sim/reach.hpp"
#include "tests/sim/schedule.hpp"
#include "tests/sim/sequence.hpp"
#include "tests/sim/tables.hpp"
#include "tests/sim/weather.hpp"
#include "tools/troupe/checked_spec.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {
namespace {

struct sim_options {
  std::string file;
  std::uint64_t seed = 1;
  std::optional<std::uint64_t> schedules;
  std::optional<double> hours;
  unsigned workers = 0;
  std::uint32_t ranks = 12;
  std::uint32_t questions = 24;
  bool calm = false;
  bool trace = false;
  std::uint64_t course = 0;
  std::string corpus; ///< folder
  std::string reach;  ///< file
  bool tables = false;
  std::string without;
  std::optional<std::uint32_t> storm; ///< milliseconds
};

std::string replay_line(const sim_options& options, const sim::schedule_options& each) {
  return fmt::format("troupe sim{} --seed {}{} --ranks {} --questions {}{}{}{} --trace",
                     options.file.empty() ? "" : " " + options.file, each.seed,
                     each.course == 0 ? "" : fmt::format(" --course {}", each.course), each.ranks_max,
                     each.questions_max, each.calm ? " --calm" : "",
                     each.without == 0 ? "" : " --without " + sim::names_of(each.without),
                     each.storm_max ? fmt::format(" --storm {}", each.storm_max->count()) : "");
}

/// Runs one schedule and prints what happens in it, step by step.
int tell_story(sim::schedule_options each) {
  each.tells = true;
  const auto outcome = sim::run_schedule(each);
  print("{}\n\n", sim::describe_schedule(each));
  for (const auto& line : outcome.story)
    print("{}\n", line);
  print("\n{} steps of {} ranks, {:.1f} s of virtual time, {} of {} questions answered, history {:016x}\n",
        outcome.steps, outcome.ranks, std::chrono::duration<double>(outcome.lasted).count(), outcome.answered,
        outcome.questions, outcome.hash);
  if (outcome.good())
    return static_cast<int>(base::exit_code::done);
  return complain(base::exit_code::failed,
                  fmt::format("seed {} breaks '{}': {}", each.seed, outcome.check, outcome.breach));
}

std::string progress_of(const sim::batch_totals& all) {
  const auto seconds = std::max(all.seconds, 1e-3);
  std::size_t reached = 0;
  std::size_t of = 0;
  for (const auto& kind : sim::sum_reach(all.reach)) {
    reached += kind.reached;
    of += kind.all;
  }
  return fmt::format("{} schedules, {:.0f} a second, {:.0f} times real time, reach {} of {}, {} failed, "
                     "slowest seed {} ({:.2f} s)",
                     all.schedules, static_cast<double>(all.schedules) / seconds, all.virtual_seconds / seconds,
                     reached, of, all.failed, all.slowest_seed, all.slowest_seconds);
}

/// Writes how often each line of `reachable()` was reached, the rarest first.
bool write_reach(const std::string& file, const std::vector<std::uint64_t>& counts) {
  std::vector<std::size_t> order(counts.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::stable_sort(order, {}, [&](std::size_t place) { return counts[place]; });
  std::ofstream out{file};
  for (const auto place : order)
    out << fmt::format("{:>12}  {}\n", counts[place], sim::reachable()[place]);
  return static_cast<bool>(out.flush());
}

int run_many(const sim_options& options, const sim::schedule_options& each) {
  sim::batch_options batch{
      .each = each, .schedules = options.schedules, .lasts = {}, .workers = options.workers, .from = nullptr};
  std::optional<sim::corpus> corpus;
  if (!options.corpus.empty()) {
    auto opened = sim::corpus::open(options.corpus, each);
    if (!opened)
      return complain(base::exit_code::config, opened.error().what);
    corpus = *std::move(opened);
    batch.from = &*corpus;
    batch.each.seed = corpus->next_seed();
  }
  if (options.hours)
    batch.lasts = std::chrono::seconds{static_cast<std::int64_t>(*options.hours * 3600)};
  else if (!batch.schedules)
    batch.schedules = 1000;
  if (batch.workers == 0)
    batch.workers = std::max(1u, std::thread::hardware_concurrency());
  auto kept = corpus; // workers read `corpus`, which must not change
  protocols::result<void> problem;
  sim::batch_totals all;
  {
    progress_line line;
    std::uint64_t shown = 0;
    std::uint64_t saved = 0;
    all = sim::run_batch(batch, [&](const sim::batch_totals& so_far) {
      if (const auto second = static_cast<std::uint64_t>(so_far.seconds);
          second >= 2 && second != std::exchange(shown, second))
        line.show(progress_of(so_far));
      if (const auto minute = static_cast<std::uint64_t>(so_far.seconds) / 60;
          kept && minute != std::exchange(saved, minute))
        problem = kept->save(so_far.kept, batch.each.seed + so_far.fresh); // a run that is killed keeps its corpus
    });
  }
  print("seeds from {}: {}\n", batch.each.seed, progress_of(all));
  print("{} steps, {} of {} questions answered\n", all.steps, all.answered, all.questions);
  print("reached: {}\n", sim::words_of(sim::sum_reach(all.reach)));
  if (kept) {
    if (problem)
      problem = kept->save(all.kept, batch.each.seed + all.fresh);
    if (!problem)
      return complain(base::exit_code::failed, problem.error().what);
    print("corpus: {} schedules before, {} now; the next fresh seed is {}\n", corpus->kept().size(),
          kept->kept().size(), kept->next_seed());
  }
  if (!options.reach.empty() && !write_reach(options.reach, all.reach))
    return complain(base::exit_code::failed, fmt::format("{} cannot be written", options.reach));
  for (const auto& failed : all.failures) {
    auto smaller = each;
    smaller.seed = failed.seed;
    smaller.course = failed.course;
    print("\nseed {} breaks '{}': {}\n  {}\n", failed.seed, failed.check, failed.breach,
          replay_line(options, sim::shrink(smaller)));
  }
  if (all.failed == 0)
    return static_cast<int>(base::exit_code::done);
  return complain(base::exit_code::failed, fmt::format("{} of {} schedules failed", all.failed, all.schedules));
}

int simulate(const sim_options& options) {
  if (options.tables) {
    print("{}", sim::describe_tables());
    print("{}", sim::describe_request());
    return static_cast<int>(base::exit_code::done);
  }
  sim::schedule_options each{.seed = options.seed,
                             .course = options.course,
                             .ranks_max = options.ranks,
                             .questions_max = options.questions,
                             .calm = options.calm,
                             .tells = false,
                             .spec = {}};
  const auto without = sim::bits_of(options.without);
  if (!without)
    return complain(base::exit_code::usage,
                    fmt::format("--without {}: valid are {}", options.without, sim::names_of(~std::uint32_t{0})));
  each.without = *without;
  if (options.storm)
    each.storm_max = std::chrono::milliseconds{*options.storm};
  if (!options.file.empty()) {
    const auto checked = check_spec(options.file);
    if (!checked)
      return complain(exit_code_of(checked.error().code), checked.error().what);
    if (checked->loaded.spec.program != "serve")
      return complain(base::exit_code::config, fmt::format("{}: only the program serve can be simulated, not {}",
                                                           options.file, checked->loaded.spec.program));
    if (std::ranges::any_of(checked->loaded.spec.pools,
                            [](const auto& pool) { return pool.role == protocols::role_kind::stub; }))
      return complain(base::exit_code::config,
                      fmt::format("{}: pools of stubs cannot be simulated; valid roles here: front, encode, prefill, "
                                  "decode, all",
                                  options.file));
    each.spec = checked->loaded.spec;
  }
  return options.trace ? tell_story(each) : run_many(options, each);
}

} // namespace

void add_sim(CLI::App& troupe, action& chosen) {
  const auto options = std::make_shared<sim_options>();
  auto* const command =
      troupe.add_subcommand("sim", "run simulated clusters of the product's own machines in virtual time");
  command->add_option("SPEC", options->file, "the cluster to simulate; default: each seed draws one")->type_name("");
  command
      ->add_option("--seed", options->seed,
                   "the first seed; a seed decides everything that is random in a schedule; default: 1")
      ->type_name("N");
  command->add_option("--schedules", options->schedules, "how many schedules to run; default: 1000")->type_name("N");
  command->add_option("--hours", options->hours, "how long to run, instead of --schedules")
      ->type_name("H")
      ->check(CLI::PositiveNumber)
      ->excludes("--schedules");
  command->add_option("--workers", options->workers, "how many processes run schedules; default: one for each core")
      ->type_name("N");
  command->add_option("--ranks", options->ranks, "the most ranks of a drawn cluster; default: 12")
      ->type_name("N")
      ->check(CLI::Range(3, 64));
  command->add_option("--questions", options->questions, "the most questions of one schedule; default: 24")
      ->type_name("N")
      ->check(CLI::Range(1, 1000));
  command->add_flag("--calm", options->calm, "inject no faults");
  command
      ->add_option("--course", options->course,
                   "the same cluster and kinds of faults, but other events while it runs; default: 0")
      ->type_name("N");
  command
      ->add_option("--corpus", options->corpus,
                   "a folder of schedules that reached something new; the run begins with them and adds to them")
      ->type_name("DIR");
  command
      ->add_option("--reach", options->reach,
                   "write here how often each transition, fault, effect and route was reached")
      ->type_name("FILE");
  command->add_flag("--tables", options->tables,
                    "print the states of all machines and the messages of one request, and run nothing else");
  command->add_flag("--trace", options->trace, "run one schedule and print what happens in it");
  command
      ->add_option("--without", options->without,
                   "kinds of faults to leave out, with commas; a shrunk failure names them")
      ->type_name("NAMES");
  command->add_option("--storm", options->storm, "inject faults only in the first MS milliseconds of virtual time")
      ->type_name("MS");
  command->footer("Examples:\n"
                  "  troupe sim --schedules 10000\n"
                  "  troupe sim deploy/drills/walk/cluster.json --hours 1\n"
                  "  troupe sim --hours 8 --corpus build/corpus --reach build/reach\n"
                  "  troupe sim --seed 17 --trace\n\n"
                  "Exit codes: 0 all passed, 1 a schedule failed, 2 usage, 3 the spec cannot be used.");
  command->callback([options, &chosen] { chosen = [options] { return simulate(*options); }; });
}

} // namespace troupe::tools
