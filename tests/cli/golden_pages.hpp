#pragma once

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/command.hpp"

/// The pages whose answers an independent implementation has given (tests/golden/cases.json).
namespace troupe::tests {

struct golden_page {
  std::string image; ///< absolute path
  std::string prompt;
  std::string text;
  std::vector<int> ids;
};

inline const std::vector<golden_page>& golden_pages() {
  static const auto pages = [] {
    std::vector<golden_page> made;
    for (const auto& each : nlohmann::json::parse(std::ifstream{golden("cases.json")}))
      made.push_back({.image = golden(each["name"].get<std::string>() + ".png"),
                      .prompt = each["prompt"],
                      .text = each["generated_text"],
                      .ids = each["generated_ids"]});
    return made;
  }();
  return pages;
}

/// What --pages takes: every golden page, `times` over.
inline std::string golden_list(const scratch_folder& here, std::size_t times = 1) {
  auto list = nlohmann::json::array();
  for (std::size_t round = 0; round < times; ++round)
    for (const auto& page : golden_pages())
      list.push_back({{"image", page.image}, {"prompt", page.prompt}});
  return here.write("pages.json", list.dump());
}

inline std::vector<nlohmann::json> json_lines(const std::string& text) {
  std::vector<nlohmann::json> lines;
  std::size_t begin = 0;
  for (auto end = text.find('\n'); end != std::string::npos; begin = end + 1, end = text.find('\n', begin))
    lines.push_back(nlohmann::json::parse(text.substr(begin, end - begin)));
  return lines;
}

} // namespace troupe::tests
