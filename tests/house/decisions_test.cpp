#include <map>
#include <regex>

#include "tests/house/source_tree.hpp"

using namespace troupe::house;

namespace {

constexpr std::string_view mark = "// Decides outside protocols: ";

/// The reason that a file states, empty where it has no mark.
std::string stated_reason(const source_file& file) {
  const auto found = file.comments.find(mark);
  if (found == std::string::npos)
    return {};
  const auto first = found + mark.size();
  return file.comments.substr(first, file.comments.find('\n', first) - first);
}

/// Where a file compares the clock with a time, or ends its rank: a decision, unless it is carried out for a machine.
/// The format puts spaces around a comparison and none around the brackets of a template.
findings decisions(const source_file& file) {
  static const std::regex sign{R"(\bnow(\(\))?( - \*?[A-Za-z0-9_.>-]+)? (<|>|<=|>=) )"
                               R"(| (<|>|<=|>=) [*(]*[A-Za-z0-9_.:>-]*\b(now|deadline|until)_?\b)"
                               R"(|\b(deadline|until)_? (<|>|<=|>=) )"
                               R"(|\bfail_rank\()"
                               R"(|::_exit\()"};
  findings found;
  for (std::sregex_iterator at_sign{file.code.begin(), file.code.end(), sign}; at_sign != std::sregex_iterator{};
       ++at_sign)
    found.push_back(at(file, static_cast<std::size_t>(at_sign->position()), at_sign->str()));
  return found;
}

bool is_held(const source_file& file) {
  return file.under("actors/") || file.under("fabric/") || file.under("runtime/cluster/");
}

/// File and reason of each row "| `file` | what | why |" of the section.
std::map<std::string, std::string> reasons_of_table(std::string_view readme) {
  std::map<std::string, std::string> rows;
  const auto section = readme.find("\n## What decides outside this folder\n");
  REQUIRE(section != std::string_view::npos);
  const auto text = readme.substr(section, readme.find("\n## ", section + 1) - section);
  constexpr std::string_view begin = "\n| `";
  for (auto i = text.find(begin); i != std::string_view::npos; i = text.find(begin, i + 1)) {
    const auto row = text.substr(i + 1, text.find('\n', i + 1) - i - 1);
    const auto name = row.substr(3, row.find('`', 3) - 3);
    const auto last = row.rfind(" |");
    const auto cell = row.rfind(" | ", last - 1) + 3;
    CHECK_MESSAGE(rows.emplace(name, row.substr(cell, last - cell)).second, "stands twice: ", std::string(name));
  }
  return rows;
}

findings judge_places(const std::vector<source_file>& files, const std::map<std::string, std::string>& table) {
  findings wrong;
  auto missing = table;
  for (const auto& file : files) {
    if (file.under("tests/"))
      continue;
    const auto reason = stated_reason(file);
    const auto row = table.find(file.path);
    missing.erase(file.path);
    if (reason.empty() && is_held(file))
      std::ranges::move(decisions(file), std::back_inserter(wrong));
    if (reason.empty() && row != table.end())
      wrong.push_back(file.path + " stands in the table and states no reason");
    if (!reason.empty() && row == table.end())
      wrong.push_back(file.path + " states a reason and does not stand in the table");
    if (!reason.empty() && row != table.end() && row->second != reason)
      wrong.push_back(file.path + " states \"" + reason + "\", the table \"" + row->second + '"');
  }
  for (const auto& [path, reason] : missing)
    wrong.push_back(path + " stands in the table and is no file");
  return wrong;
}

} // namespace

TEST_CASE("what compares the clock or ends a rank is in protocols, or says why it is not") {
  report(judge_places(sources(), reasons_of_table(read_text(root() / "protocols/README.md"))),
         "A decision in a thread or an actor is one that no simulation steps: move it into a machine, or say in the "
         "file (\"// Decides outside protocols: why\") and in protocols/README.md, in the same words, why it stays.");
}

TEST_CASE("the rule of decisions finds what is planted") {
  const auto judged = [](const char* path, const char* text) { return decisions(read_cpp(path, text)); };
  CHECK(judged("fabric/x.cpp", "if (base::now() >= until_) go();\n").size() == 1);
  CHECK(judged("fabric/x.cpp", "return now - looked_ < nap;\n").size() == 1);
  CHECK(judged("fabric/x.cpp", "while (begun < what.deadline)\n").size() == 1);
  CHECK(judged("fabric/x.cpp", "if (write->request.deadline <= then)\n").size() == 1);
  CHECK(judged("actors/x.cpp", "rank_.fail_rank(cause, \"link\");\n").size() == 1);
  CHECK(judged("runtime/cluster/x.cpp", "::_exit(1);\n").size() == 1);
  CHECK(judged("fabric/x.cpp", "std::optional<time_point> until;\nstd::vector<pollfd> now;\n").empty());
  CHECK(judged("fabric/x.cpp", "changed_.wait_until(lock, deadline); // now >= deadline\n").empty());
  CHECK(judged("fabric/x.cpp", "const auto left = deadline - base::now();\n").empty());

  const auto places = [](const char* path, const std::string& text, const std::map<std::string, std::string>& table) {
    return judge_places({read_cpp(path, text)}, table);
  };
  const std::string bare = "bool late() { return now >= deadline; }\n";
  const std::string marked = std::string(mark) + "the wait itself\n" + bare;
  CHECK(places("fabric/x.cpp", bare, {}).size() == 1);
  CHECK(places("gpu/x.cpp", bare, {}).empty());
  CHECK(places("fabric/x.cpp", marked, {{"fabric/x.cpp", "the wait itself"}}).empty());
  CHECK(places("fabric/x.cpp", marked, {}).size() == 1);
  CHECK(places("fabric/x.cpp", marked, {{"fabric/x.cpp", "another"}}).size() == 1);
  CHECK(places("fabric/x.cpp", "int x;\n", {{"fabric/x.cpp", "the wait itself"}}).size() == 1);
  CHECK(places("fabric/x.cpp", "int x;\n", {{"fabric/y.cpp", "the wait itself"}}).size() == 1);
  CHECK(reasons_of_table("\n## What decides outside this folder\n\n| place | what | why |\n| --- | --- | --- |\n"
                         "| `fabric/x.cpp` | how long | the wait itself |\n\n## Faults\n| `a.cpp` | b | c |\n") ==
        std::map<std::string, std::string>{{"fabric/x.cpp", "the wait itself"}});
}
