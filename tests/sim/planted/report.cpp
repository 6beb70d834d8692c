#include "tests/sim/planted/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace troupe::sim {

namespace {

template <class Value>
Value middle(std::vector<Value> of) {
  if (of.empty())
    return {};
  std::ranges::sort(of);
  return of[of.size() / 2];
}

bool is_looked_for(int number, const std::vector<trial>& trials) {
  return std::ranges::any_of(trials, [=](const trial& each) { return each.bug == number; });
}

} // namespace

finding judge(const planted_row&, int number, const std::vector<trial>& trials) {
  finding out{.whole = true, .schedules = 0, .seconds = 0, .checks = {}};
  std::vector<std::uint64_t> schedules;
  std::vector<double> seconds;
  std::set<std::string> checks;
  for (const auto& each : trials) {
    if (each.bug != number)
      continue;
    out.whole = out.whole && each.found.has_value();
    schedules.push_back(each.tried);
    seconds.push_back(each.seconds);
    if (each.found)
      checks.insert(each.check);
  }
  out.schedules = middle(std::move(schedules));
  out.seconds = middle(std::move(seconds));
  for (const auto& check : checks)
    out.checks += (out.checks.empty() ? "" : "; ") + check;
  return out;
}

std::string table_of(const std::vector<planted_row>& rows, const std::vector<trial>& trials) {
  std::string text = "| planted bug | breaks | found by | schedules | seconds |\n| --- | --- | --- | --- | --- |\n";
  std::size_t looked_for = 0;
  std::size_t found = 0;
  std::vector<std::uint64_t> schedules;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto number = static_cast<int>(i + 1);
    if (!is_looked_for(number, trials))
      continue;
    const auto of = judge(rows[i], number, trials);
    const auto by = of.checks.empty() ? std::string{"nothing"} : of.checks + (of.whole ? "" : " (not in each trial)");
    text += fmt::format("| {} | {} | {} | {}{} | {:.2f} |\n", rows[i].name, rows[i].label, by, of.whole ? "" : "> ",
                        of.schedules, of.seconds);
    ++looked_for;
    found += of.checks.empty() ? 0 : 1;
    schedules.push_back(of.schedules);
  }
  return text + fmt::format("\n{} of {} found; median {} schedules\n", found, looked_for, middle(std::move(schedules)));
}

std::string json_of(const std::vector<planted_row>& rows, const std::vector<trial>& trials) {
  auto list = nlohmann::json::array();
  for (const auto& each : trials) {
    const auto& row = rows[static_cast<std::size_t>(each.bug) - 1];
    nlohmann::json one{{"bug", row.name},     {"digest", row.digest}, {"from", each.from},
                       {"tried", each.tried}, {"unfit", each.unfit},  {"seconds", each.seconds},
                       {"check", each.check}, {"breach", each.breach}};
    if (each.found)
      one["found"] = *each.found;
    list.push_back(std::move(one));
  }
  return list.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::vector<trial> trials_of(const std::string& json, const std::vector<planted_row>& rows) {
  std::vector<trial> out;
  for (const auto& one : nlohmann::json::parse(json)) {
    const auto row = std::ranges::find(rows, one.at("bug").get<std::string>(), &planted_row::name);
    if (row == rows.end() || row->digest != one.at("digest"))
      continue;
    trial each{.bug = static_cast<int>(row - rows.begin()) + 1,
               .from = one.at("from"),
               .tried = one.at("tried"),
               .unfit = one.at("unfit"),
               .seconds = one.at("seconds"),
               .found = {},
               .check = one.at("check"),
               .breach = one.at("breach")};
    if (one.contains("found"))
      each.found = one.at("found").get<std::uint64_t>();
    out.push_back(std::move(each));
  }
  return out;
}

} // namespace troupe::sim
