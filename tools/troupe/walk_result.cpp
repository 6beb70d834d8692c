#include "tools/troupe/walk_result.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "tools/troupe/text.hpp"

namespace troupe::tools {

using namespace protocols;

namespace {

struct answer_count {
  const char* name;
  std::uint64_t crowd_counts::*of;
};
constexpr std::array answer_rows{answer_count{"asked", &crowd_counts::asked},
                                 answer_count{"right", &crowd_counts::right},
                                 answer_count{"cancelled", &crowd_counts::cancelled},
                                 answer_count{"left", &crowd_counts::left},
                                 answer_count{"failed", &crowd_counts::failed},
                                 answer_count{"refused", &crowd_counts::refused},
                                 answer_count{"wrong", &crowd_counts::wrong},
                                 answer_count{"doubled", &crowd_counts::doubled},
                                 answer_count{"lost", &crowd_counts::lost}};

struct walk_count {
  const char* name;
  std::uint64_t walk_result::*of;
};
constexpr std::array walk_rows{
    walk_count{"restarts", &walk_result::restarts}, walk_count{"causes_judged", &walk_result::causes_judged},
    walk_count{"causes_right", &walk_result::causes_right}, walk_count{"left_alive", &walk_result::left_alive}};

std::string list_of(const std::map<std::string, std::uint64_t>& counts) {
  std::string text;
  for (const auto& [name, count] : counts)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, name);
  return text;
}

} // namespace

void walk_result::add(const walk_result& other) {
  lasted += other.lasted;
  for (const auto& row : answer_rows)
    answers.*row.of += other.answers.*row.of;
  for (const auto& row : walk_rows)
    this->*row.of += other.*row.of;
  for (const auto& [name, count] : other.moves)
    moves[name] += count;
  for (const auto& [name, count] : other.causes)
    causes[name] += count;
}

nlohmann::ordered_json as_json(const walk_result& walk) {
  nlohmann::ordered_json json{{"walk", walk.number},
                              {"seed", walk.seed},
                              {"passed", walk.passed()},
                              {"lasted_s", std::chrono::duration<double>(walk.lasted).count()}};
  for (const auto& row : answer_rows)
    json[row.name] = walk.answers.*row.of;
  for (const auto& row : walk_rows)
    json[row.name] = walk.*row.of;
  json.update({{"moves", walk.moves},
               {"causes", walk.causes},
               {"blamed_wrong", walk.blamed_wrong},
               {"problems", walk.problems},
               {"kept", walk.kept}});
  return json;
}

result<walk_result> walk_result_from(const nlohmann::ordered_json& json) {
  walk_result out;
  try {
    out.number = json.at("walk");
    out.seed = json.at("seed");
    out.lasted = std::chrono::duration_cast<duration>(std::chrono::duration<double>(json.at("lasted_s").get<double>()));
    for (const auto& row : answer_rows)
      out.answers.*row.of = json.at(row.name);
    for (const auto& row : walk_rows)
      out.*row.of = json.at(row.name);
    for (const auto& [name, count] : json.at("moves").items())
      out.moves[name] = count;
    for (const auto& [name, count] : json.at("causes").items())
      out.causes[name] = count;
    out.blamed_wrong = json.at("blamed_wrong").get<std::vector<std::string>>();
    out.problems = json.at("problems").get<std::vector<std::string>>();
    out.kept = json.at("kept");
  } catch (const nlohmann::json::exception& problem) { // the library's only way to say it
    return fail(fault::config_invalid, problem.what());
  }
  return out;
}

void print_walks(const std::vector<walk_result>& walks) {
  walk_result sum;
  for (const auto& walk : walks)
    sum.add(walk);
  table sums{{{"what"}, {"count", table::side::right}}};
  for (const auto& row : answer_rows)
    sums.add({row.name, std::to_string(sum.answers.*row.of)});
  sums.add({"cells started anew", std::to_string(sum.restarts)});
  sums.add({"causes named right", fmt::format("{} of {}", sum.causes_right, sum.causes_judged)});
  sums.add({"processes left", std::to_string(sum.left_alive)});
  print("{}", sums.text(palette{STDOUT_FILENO}));
  print("\nmoves: {}\n", list_of(sum.moves));
  for (const auto& [cause, count] : sum.causes)
    print("{} x {}\n", count, cause);
  const auto passed = std::ranges::count_if(walks, &walk_result::passed);
  print("{} of {} walks passed, {:.0f} s in all\n", passed, walks.size(),
        std::chrono::duration<double>(sum.lasted).count());
  for (const auto& walk : walks)
    for (const auto& line : walk.blamed_wrong)
      print("walk {} blames nobody who was struck: {}\n", walk.number, line);
  for (const auto& walk : walks)
    for (const auto& problem : walk.problems)
      print("walk {} (seed {}): {}\n", walk.number, walk.seed, problem);
  for (const auto& walk : walks)
    if (!walk.kept.empty())
      print("walk {}: kept in {}\n", walk.number, walk.kept);
}

} // namespace troupe::tools
