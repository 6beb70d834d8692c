#include "tools/troupe/drill_series.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tools/troupe/series_cycles.hpp"
#include "tools/troupe/series_kills.hpp"
#include "tools/troupe/series_pressure.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {

using namespace protocols;

namespace {

constexpr std::uint32_t kills_default = 1000;
constexpr std::uint32_t cycles_default = 2000;
constexpr std::size_t answer_tokens = 4; ///< of a trial, which is about the cluster and not the model

int complain_of(const failure& what) {
  return complain(exit_code_of(what.code), what.what);
}

/// Trials of an earlier run by number; a line that was cut off by the end of its writer is passed over.
std::map<std::uint32_t, series_trial> trials_of(const std::string& file) {
  std::map<std::uint32_t, series_trial> known;
  std::ifstream in{file, std::ios::binary};
  for (std::string text; std::getline(in, text);)
    if (const auto line = nlohmann::ordered_json::parse(text, nullptr, false); !line.is_discarded())
      if (auto one = series_trial_from(line))
        known[one->number] = std::move(*one);
  return known;
}

void shorten(std::vector<cluster::drill_page>& pages) {
  for (auto& page : pages) {
    page.answer.resize(std::min(page.answer.size(), answer_tokens));
    page.max_tokens = answer_tokens;
  }
}

int run_trials(const series_options& options, const series_setup& setup) {
  const bool kills = options.kind == series_kind::kills;
  const auto count = options.count != 0 ? options.count : kills ? kills_default : cycles_default;
  std::map<std::uint32_t, series_trial> known;
  std::ofstream summary;
  if (!options.resume.empty()) {
    known = trials_of(options.resume);
    summary.open(options.resume, std::ios::app);
    if (!summary)
      return complain(base::exit_code::config, "cannot write " + options.resume);
  }
  std::vector<series_trial> trials;
  std::size_t failed = 0;
  progress_line progress;
  for (std::uint32_t number = 1; number <= count; ++number) {
    if (const auto found = known.find(number); found != known.end() && found->second.passed()) {
      trials.push_back(found->second);
      continue;
    }
    progress.show(fmt::format("{} of {}, {} failed (seed {})", number, count, failed, options.seed));
    auto trial =
        kills ? run_kill(setup, number, draw_kill(options.seed, number, setup.plan)) : run_cycle(setup, number);
    if (!trial)
      return complain_of(trial.error());
    failed += trial->passed() ? 0 : 1;
    const auto line = as_json(*trial).dump();
    if (summary.is_open())
      summary << line << std::endl; // a run that is cut off leaves what it has done
    if (options.json) {
      progress.clear();
      fmt::print("{}\n", line);
      std::fflush(stdout);
    }
    trials.push_back(std::move(*trial));
  }
  progress.clear();
  if (!options.json)
    print_series(trials);
  const bool passed = std::ranges::all_of(trials, &series_trial::passed);
  return static_cast<int>(passed ? base::exit_code::done : base::exit_code::failed);
}

int run_pressure_series(const series_options& options, const series_setup& setup) {
  progress_line progress;
  const auto done = run_pressure(setup, {std::chrono::seconds{options.seconds}, options.seed},
                                 [&](std::string_view line) { progress.show(line); });
  progress.clear();
  if (!done)
    return complain_of(done.error());
  if (options.json) {
    auto line = as_json(done->trial);
    line["pauses"] = done->pauses;
    line["overlong"] = done->overlong;
    line["false_kills"] = done->false_kills;
    line["lasted_s"] = std::chrono::duration<double>(done->lasted).count();
    fmt::print("{}\n", line.dump());
    std::fflush(stdout);
  } else {
    fmt::print("{} (seed {})\n", done->trial.what, options.seed);
    print_series({done->trial});
  }
  return static_cast<int>(done->trial.passed() ? base::exit_code::done : base::exit_code::failed);
}

} // namespace

int run_series(const series_options& options) {
  auto setup = read_series_setup(options.spec, options.pages);
  if (!setup)
    return complain_of(setup.error());
  if (options.kind == series_kind::pressure)
    return run_pressure_series(options, *setup);
  shorten(setup->pages);
  return run_trials(options, *setup);
}

} // namespace troupe::tools
