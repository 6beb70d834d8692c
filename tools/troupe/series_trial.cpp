#include "tools/troupe/series_trial.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/troupe/text.hpp"

namespace troupe::tools {

using namespace protocols;

void series_trial::judge(const drill_load& asked) {
  load = asked.conclude();
  if (load.lost != 0 || load.wrong != 0 || load.duplicates != 0)
    problem(fmt::format("{} lost, {} wrong, {} doubled", load.lost, load.wrong, load.duplicates));
  for (const auto& complaint : asked.complaints())
    problem(complaint);
}

nlohmann::ordered_json as_json(const series_trial& trial) {
  nlohmann::ordered_json json{{"trial", trial.number},
                              {"passed", trial.passed()},
                              {"what", trial.what},
                              {"ms", nlohmann::ordered_json::object()}};
  for (const auto& figure : trial.figures)
    json["ms"][figure.name] = std::chrono::duration<double, std::milli>(figure.took).count();
  json.update({{"asked", trial.load.asked},
               {"done", trial.load.done},
               {"failed", trial.load.failed},
               {"refused", trial.load.refused},
               {"lost", trial.load.lost},
               {"wrong", trial.load.wrong},
               {"duplicates", trial.load.duplicates},
               {"left_alive", trial.left_alive},
               {"problems", trial.problems},
               {"kept", trial.kept}});
  return json;
}

result<series_trial> series_trial_from(const nlohmann::ordered_json& json) {
  series_trial out;
  try {
    out.number = json.at("trial");
    out.what = json.at("what");
    for (const auto& [name, took] : json.at("ms").items())
      out.measured(name, std::chrono::duration_cast<duration>(std::chrono::duration<double, std::milli>(took)));
    out.load = {.asked = json.at("asked"),
                .done = json.at("done"),
                .failed = json.at("failed"),
                .refused = json.at("refused"),
                .lost = json.at("lost"),
                .wrong = json.at("wrong"),
                .duplicates = json.at("duplicates")};
    out.left_alive = json.at("left_alive");
    out.problems = json.at("problems").get<std::vector<std::string>>();
    out.kept = json.at("kept");
  } catch (const nlohmann::json::exception& problem) { // the library's only way to say it
    return fail(fault::config_invalid, problem.what());
  }
  return out;
}

std::vector<spread> spreads_of(const std::vector<series_trial>& trials) {
  std::vector<spread> out;
  std::vector<std::vector<duration>> values;
  for (const auto& trial : trials)
    for (const auto& [name, took] : trial.figures) {
      const auto known = std::ranges::find(out, name, &spread::name);
      const auto place = static_cast<std::size_t>(known - out.begin());
      if (known == out.end()) {
        out.push_back({.name = name});
        values.emplace_back();
      }
      values[place].push_back(took);
    }
  for (std::size_t i = 0; i < out.size(); ++i) {
    auto& sorted = values[i];
    std::ranges::sort(sorted);
    const auto at = [&](std::size_t percent) {
      return sorted[std::min(sorted.size() - 1, sorted.size() * percent / 100)];
    };
    out[i].count = sorted.size();
    out[i].p50 = at(50);
    out[i].p99 = at(99);
    out[i].most = sorted.back();
  }
  return out;
}

void print_series(const std::vector<series_trial>& trials) {
  using side = table::side;
  table figures{
      {{"figure"}, {"trials", side::right}, {"median", side::right}, {"p99", side::right}, {"max", side::right}}};
  for (const auto& each : spreads_of(trials))
    figures.add({each.name, std::to_string(each.count), in_words(each.p50), in_words(each.p99), in_words(each.most)});
  print("{}", figures.text(palette{STDOUT_FILENO}));
  load_counts sum;
  std::size_t alive = 0;
  for (const auto& trial : trials) {
    sum.done += trial.load.done;
    sum.failed += trial.load.failed + trial.load.refused;
    sum.lost += trial.load.lost;
    sum.duplicates += trial.load.duplicates + trial.load.wrong;
    alive += trial.left_alive;
  }
  const auto passed = std::ranges::count_if(trials, &series_trial::passed);
  print("\n{} of {} passed; processes left {}; requests done {}, failed {}, lost {}, doubled or wrong {}\n", passed,
        trials.size(), alive, sum.done, sum.failed, sum.lost, sum.duplicates);
  for (const auto& trial : trials)
    for (const auto& problem : trial.problems)
      print("{}: {}: {}\n", trial.number, trial.what, problem);
  for (const auto& trial : trials)
    if (!trial.kept.empty())
      print("{}: kept in {}\n", trial.number, trial.kept);
}

} // namespace troupe::tools
