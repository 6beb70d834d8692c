#include "tools/troupe/drill_report.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/cluster/json_text.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {

using namespace protocols;

namespace {

std::string shown(const std::optional<duration>& took) {
  return took ? in_words(*took) : "-";
}

std::string shown(const std::optional<bool>& right) {
  return right ? (*right ? "yes" : "no") : "-";
}

nlohmann::ordered_json milliseconds(const std::optional<duration>& took) {
  return took ? nlohmann::ordered_json(std::chrono::duration<double, std::milli>(*took).count())
              : nlohmann::ordered_json(nullptr);
}

std::optional<duration> duration_from(const nlohmann::ordered_json& json) {
  if (!json.is_number())
    return std::nullopt;
  return std::chrono::duration_cast<duration>(std::chrono::duration<double, std::milli>(json.get<double>()));
}

} // namespace

void print_drills(const std::vector<drill_result>& results) {
  using side = table::side;
  table drills{{{"drill"},
                {"passed"},
                {"detected", side::right},
                {"over", side::right},
                {"done", side::right},
                {"failed", side::right},
                {"lost", side::right},
                {"doubled", side::right},
                {"cause"},
                {"alive", side::right}}};
  for (const auto& each : results)
    drills.add({each.name, each.passed ? "yes" : "NO", shown(each.detected), shown(each.over),
                std::to_string(each.load.done), std::to_string(each.load.failed + each.load.refused),
                std::to_string(each.load.lost), std::to_string(each.load.duplicates + each.load.wrong),
                shown(each.cause_right), std::to_string(each.left_alive)});
  print("{}", drills.text(palette{STDOUT_FILENO}));
  const auto passed = std::ranges::count(results, true, &drill_result::passed);
  print("\n{} of {} passed\n", passed, results.size());
  for (const auto& each : results)
    for (const auto& problem : each.problems)
      print("{}: {}\n", each.name, problem);
  for (const auto& each : results)
    if (!each.kept.empty())
      print("{}: kept in {}\n", each.name, each.kept);
}

nlohmann::ordered_json as_json(const drill_result& result) {
  nlohmann::ordered_json json{{"drill", result.name},
                              {"passed", result.passed},
                              {"struck", result.struck},
                              {"detected_ms", milliseconds(result.detected)},
                              {"over_ms", milliseconds(result.over)},
                              {"asked", result.load.asked},
                              {"done", result.load.done},
                              {"failed", result.load.failed},
                              {"refused", result.load.refused},
                              {"lost", result.load.lost},
                              {"wrong", result.load.wrong},
                              {"duplicates", result.load.duplicates},
                              {"cause_right", nullptr},
                              {"left_alive", result.left_alive},
                              {"exit_code", nullptr},
                              {"last_line", result.last_line},
                              {"problems", result.problems},
                              {"kept", result.kept}};
  if (result.cause_right)
    json["cause_right"] = *result.cause_right;
  if (result.exit_code)
    json["exit_code"] = *result.exit_code;
  return json;
}

result<drill_result> drill_result_from(const nlohmann::ordered_json& json) {
  drill_result out;
  try {
    out.name = json.at("drill");
    out.passed = json.at("passed");
    out.struck = json.at("struck");
    out.detected = duration_from(json.at("detected_ms"));
    out.over = duration_from(json.at("over_ms"));
    out.load = {.asked = json.at("asked"),
                .done = json.at("done"),
                .failed = json.at("failed"),
                .refused = json.at("refused"),
                .lost = json.at("lost"),
                .wrong = json.at("wrong"),
                .duplicates = json.at("duplicates")};
    if (json.at("cause_right").is_boolean())
      out.cause_right = json.at("cause_right").get<bool>();
    out.left_alive = json.at("left_alive");
    if (json.at("exit_code").is_number())
      out.exit_code = json.at("exit_code").get<int>();
    out.last_line = json.at("last_line");
    out.problems = json.at("problems").get<std::vector<std::string>>();
    out.kept = json.at("kept");
  } catch (const nlohmann::json::exception& problem) { // the library's only way to say it
    return fail(fault::config_invalid, problem.what());
  }
  return out;
}

result<drill_summary> drill_summary::open(const std::string& file) {
  drill_summary summary{file};
  std::ifstream in{file, std::ios::binary};
  for (std::string text; std::getline(in, text);) {
    const auto line = nlohmann::ordered_json::parse(text, nullptr, false);
    if (line.is_discarded())
      continue;
    if (auto one = drill_result_from(line))
      summary.known_[one->name] = std::move(*one);
  }
  if (!std::ofstream{file, std::ios::app})
    return fail(fault::config_invalid, "cannot write " + file);
  return summary;
}

const drill_result* drill_summary::find(const std::string& name) const {
  const auto found = known_.find(name);
  return found == known_.end() ? nullptr : &found->second;
}

void drill_summary::add(const drill_result& result) {
  std::ofstream{file_, std::ios::app} << cluster::text_of(as_json(result)) << '\n';
  known_[result.name] = result;
}

} // namespace troupe::tools
