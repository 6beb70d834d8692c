#include "tools/troupe/drill_series.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/base/clock.hpp"
#include "runtime/cluster/json_text.hpp"
#include "tools/troupe/series_cycles.hpp"
#include "tools/troupe/series_kills.hpp"
#include "tools/troupe/series_pressure.hpp"
#include "tools/troupe/series_walk.hpp"
#include "tools/troupe/text.hpp"
#include "tools/troupe/walk_questions.hpp"

namespace troupe::tools {

using namespace protocols;

namespace {

constexpr std::uint32_t kills_default = 1000;
constexpr std::uint32_t cycles_default = 2000;
constexpr std::chrono::milliseconds walk_length{60'000}; ///< then another cluster is launched
constexpr std::uint32_t questions_most = 24;             ///< that walks ask; fewer in a walk of seconds
constexpr std::uint32_t questions_least = 6;
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
    const auto line = cluster::text_of(as_json(*trial));
    if (summary.is_open())
      summary << line << std::endl; // a run that is cut off leaves what it has done
    if (options.json) {
      progress.clear();
      print("{}\n", line);
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
    print("{}\n", cluster::text_of(line));
  } else {
    print("{} (seed {})\n", done->trial.what, options.seed);
    print_series({done->trial});
  }
  return static_cast<int>(done->trial.passed() ? base::exit_code::done : base::exit_code::failed);
}

/// Walks of an earlier run, in the order in which they were made.
std::vector<walk_result> walks_of(const std::string& file) {
  std::vector<walk_result> known;
  std::ifstream in{file, std::ios::binary};
  for (std::string text; std::getline(in, text);)
    if (const auto line = nlohmann::ordered_json::parse(text, nullptr, false); !line.is_discarded())
      if (auto one = walk_result_from(line))
        known.push_back(std::move(*one));
  return known;
}

result<std::vector<known_question>> know_questions(const series_options& options, const series_setup& setup,
                                                   progress_line& progress) {
  const auto count = std::clamp(options.seconds, questions_least, questions_most);
  return draw_questions(setup, options.seed, count).and_then([&](std::vector<known_question> drawn) {
    return learn_answers(setup, std::move(drawn), [&](std::string_view line) { progress.show(line); });
  });
}

/// Walks until the time is over, after those that the summary knows; returns those of this run.
result<std::vector<walk_result>> walk_on(const series_options& options, const series_setup& setup, std::uint32_t first,
                                         std::ofstream& summary) {
  progress_line progress;
  const auto questions = know_questions(options, setup, progress);
  if (!questions)
    return tl::unexpected{questions.error()};
  std::vector<walk_result> walks;
  const auto ends = base::now() + std::chrono::seconds{options.seconds};
  for (auto number = first; base::now() < ends; ++number) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(ends - base::now());
    auto walk =
        run_walk(setup, *questions, {.number = number, .seed = options.seed, .length = std::min(left, walk_length)},
                 [&](std::string_view line) { progress.show(line); });
    if (!walk)
      return tl::unexpected{walk.error()};
    const auto line = cluster::text_of(as_json(*walk));
    if (summary.is_open())
      summary << line << std::endl; // a run that is cut off leaves what it has done
    progress.clear();
    if (options.json)
      print("{}\n", line);
    walks.push_back(std::move(*walk));
    if (options.count != 0 && walks.size() >= options.count)
      break;
  }
  return walks;
}

int run_walks(const series_options& options, const series_setup& setup) {
  std::vector<walk_result> walks;
  std::ofstream summary;
  if (!options.resume.empty()) {
    walks = walks_of(options.resume);
    summary.open(options.resume, std::ios::app);
    if (!summary)
      return complain(base::exit_code::config, "cannot write " + options.resume);
  }
  const auto known = static_cast<std::uint32_t>(walks.size());
  auto more = walk_on(options, setup, known + 1, summary);
  if (!more)
    return complain_of(more.error());
  std::ranges::move(*more, std::back_inserter(walks));
  if (!options.json)
    print_walks(walks);
  const bool passed = std::ranges::all_of(walks, &walk_result::passed);
  return static_cast<int>(passed ? base::exit_code::done : base::exit_code::failed);
}

} // namespace

int run_series(const series_options& options) {
  auto setup = read_series_setup(options.spec, options.pages);
  if (!setup)
    return complain_of(setup.error());
  if (options.kind == series_kind::pressure)
    return run_pressure_series(options, *setup);
  if (options.kind == series_kind::walk)
    return run_walks(options, *setup);
  shorten(setup->pages);
  return run_trials(options, *setup);
}

} // namespace troupe::tools
