#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/base/outlet.hpp"
#include "tests/sim/planted/hunt.hpp"
#include "tests/sim/planted/report.hpp"
#include "tests/sim/schedule.hpp"

using namespace troupe;
using namespace troupe::sim;

namespace {

struct wanted {
  std::vector<std::string> bugs;
  std::uint64_t from = 1;
  unsigned bases = 3;
  hunt_options how;
  std::uint64_t of_product = 2'000;
  std::optional<unsigned> seconds;
  std::string json;
  bool lists = false;
  bool escaping = false;
  std::uint64_t hashes = 0;
  std::uint64_t failing = 0;
  std::uint64_t trace = 0;
};

/// Seeds between the first ones of two trials.
constexpr std::uint64_t bases_apart = 10'000'000;

void say(std::string_view text) {
  base::standard_output().put(text);
}

void parse(CLI::App& app, wanted& what) {
  app.add_option("bugs,--only", what.bugs, "names of bugs; none: all");
  app.add_option("--from", what.from, "first seed");
  app.add_option("--bases", what.bases, "trials of each bug, each from seeds of its own")->check(CLI::Range(1, 100));
  app.add_option("--schedules", what.how.schedules_max, "at most so many in a trial");
  app.add_option("--jobs,--workers", what.how.workers, "processes beside each other")->check(CLI::Range(1, 256));
  app.add_option("--seconds", what.seconds, "ends then; what was tried counts, and --json goes on with it")
      ->check(CLI::PositiveNumber);
  app.add_option("--product", what.of_product,
                 "schedules without a bug, which say how often each check fails by itself");
  app.add_option("--json", what.json, "results; those of an earlier run are gone on with");
  app.add_flag("--list", what.lists, "says which bugs there are");
  app.add_flag("--escaping", what.escaping, "those too that are known to escape, where no bug is named");
  app.add_option("--hashes", what.hashes,
                 "says the history hash of so many schedules, with the bug that is named or none");
  app.add_option("--failing", what.failing, "says which of so many schedules fail, with the bug that is named or none");
  app.add_option("--trace", what.trace,
                 "tells the story of the schedule of this seed, with the bug that is named or none");
}

int number_of(const std::vector<planted_row>& rows, const std::string& name) {
  const auto found = std::ranges::find(rows, name, &planted_row::name);
  if (found == rows.end())
    throw CLI::ValidationError{"bugs", "there is no bug " + name + "; --list names those that are"};
  return static_cast<int>(found - rows.begin()) + 1;
}

int tell_one(const wanted& what, int bug) {
  planted_bug = bug;
  schedule_options how;
  if (what.trace != 0) {
    how.seed = what.trace;
    how.tells = true;
    const auto told = run_schedule(how);
    for (const auto& line : told.story)
      say(line + "\n");
    say(describe_schedule(how) + "\n");
  }
  for (auto seed = what.from; seed < what.from + what.hashes; ++seed) {
    how.seed = seed;
    say(fmt::format("{:016x}\n", run_schedule(how).hash));
  }
  for (auto seed = what.from; seed < what.from + what.failing; ++seed) {
    how.seed = seed;
    if (const auto outcome = run_schedule(how); !outcome.good())
      say(fmt::format("{}: {}: {}\n", seed, outcome.check, outcome.breach));
  }
  return 0;
}

std::vector<trial> trials_before(const std::string& path, const std::vector<planted_row>& rows) {
  std::ifstream in{path};
  if (path.empty() || !in)
    return {};
  std::ostringstream text;
  text << in.rdbuf();
  return trials_of(text.str(), rows);
}

bool is_wanted(const wanted& what, const planted_row& row) {
  if (what.bugs.empty())
    return row.escapes.empty() || what.escaping;
  return std::ranges::find(what.bugs, row.name) != what.bugs.end();
}

/// 0: each bug that is not known to escape was found.
int look_for(wanted& what, const std::vector<planted_row>& rows) {
  what.how.of_product = look_at_product(what.from + 100 * bases_apart, what.of_product);
  if (what.seconds)
    what.how.lasts = std::chrono::seconds{*what.seconds};
  for (const auto& [check, rate] : what.how.of_product)
    base::standard_error().offer(fmt::format("without a bug, {} of 1000 schedules fail: {}\n", rate * 1000, check));
  auto known = trials_before(what.json, rows);
  std::vector<trial> trials;
  for (int bug = 1; bug <= static_cast<int>(rows.size()); ++bug) {
    if (!is_wanted(what, rows[static_cast<std::size_t>(bug) - 1]))
      continue;
    for (unsigned i = 0; i < what.bases; ++i) {
      trial one;
      one.bug = bug;
      one.from = what.from + i * bases_apart;
      const auto earlier =
          std::ranges::find_if(known, [&](const trial& each) { return each.bug == bug && each.from == one.from; });
      if (earlier != known.end()) {
        one = *earlier;
        known.erase(earlier);
      }
      trials.push_back(std::move(one));
    }
  }
  std::size_t over = 0;
  const auto save = [&] {
    auto all = trials;
    all.insert(all.end(), known.begin(), known.end());
    if (!what.json.empty())
      std::ofstream{what.json} << json_of(rows, all);
  };
  hunt(trials, what.how, [&](const trial& one) {
    base::standard_error().offer(
        fmt::format("{} of {}: {} {}\n", ++over, trials.size(), rows[static_cast<std::size_t>(one.bug) - 1].name,
                    one.found ? fmt::format("by seed {}, {}: {}", *one.found, one.check, one.breach)
                              : fmt::format("not in {} schedules", one.tried)));
    if (over % 20 == 0)
      save();
  });
  save();
  say(table_of(rows, trials));
  return std::ranges::all_of(trials,
                             [&](const trial& one) {
                               return one.found || !rows[static_cast<std::size_t>(one.bug) - 1].escapes.empty();
                             })
             ? 0
             : 1;
}

} // namespace

int main(int count, char** arguments) {
  CLI::App app{"Plants bugs in the machines, one at a time, and lets the simulator find them."};
  wanted what;
  parse(app, what);
  try {
    app.parse(count, arguments);
    const auto rows = planted_rows();
    int bug = 0;
    for (const auto& name : what.bugs)
      bug = number_of(rows, name);
    if (what.lists) {
      for (const auto& row : rows)
        say(fmt::format("{} ({}): {}{}\n", row.name, row.label, row.what,
                        row.escapes.empty() ? "" : " Escapes: " + row.escapes));
      return 0;
    }
    if (what.trace != 0 || what.hashes != 0 || what.failing != 0)
      return tell_one(what, bug);
    return look_for(what, rows);
  } catch (const CLI::Error& problem) {
    return app.exit(problem);
  }
}
