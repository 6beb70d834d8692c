#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "tests/house/source_tree.hpp"

using namespace troupe::house;

namespace {

std::size_t times(const std::string& what, const std::string& in) {
  std::size_t count = 0;
  for (auto i = in.find(what); i != std::string::npos; i = in.find(what, i + what.size()))
    ++count;
  return count;
}

/// As `tests/sim/planted/plant` finds the place of a bug.
findings judge_edit(const std::string& name, const nlohmann::json& edit,
                    const std::map<std::string, std::string>& files) {
  const auto file = edit.at("file").get<std::string>();
  const auto old = edit.at("old").get<std::string>();
  const auto found = files.find(file);
  if (!file.starts_with("protocols/") || found == files.end())
    return {name + ": there is no " + file + " in protocols/"};
  if (const auto form = edit.at("form").get<std::string>(); form != "expression" && form != "statement")
    return {name + ": form " + form + "; valid are expression and statement"};
  if (old.empty() || old == edit.at("new"))
    return {name + ": a text that becomes another one"};
  const auto& text = found->second;
  if (!edit.contains("after"))
    return times(old, text) == 1 ? findings{} : findings{name + ": " + file + " holds its text other than once"};
  const auto after = edit.at("after").get<std::string>();
  const bool stands = times(after, text) == 1 && text.find(old, text.find(after) + after.size()) != std::string::npos;
  return stands ? findings{} : findings{name + ": " + file + " does not hold its text behind `after`"};
}

findings judge_rows(const nlohmann::json& rows, const std::map<std::string, std::string>& files) {
  findings found;
  std::set<std::string> names;
  for (const auto& row : rows) {
    const auto name = row.at("name").get<std::string>();
    if (!names.insert(name).second || row.at("label").get<std::string>().empty() ||
        row.at("what").get<std::string>().empty())
      found.push_back(name + ": a row has a name of its own, a label and a sentence");
    for (const auto& edit : row.contains("edits") ? row.at("edits") : nlohmann::json::array({row}))
      for (auto& each : judge_edit(name, edit, files))
        found.push_back(std::move(each));
  }
  return found;
}

} // namespace

TEST_CASE("every planted bug stands in the source") {
  std::map<std::string, std::string> files;
  for (const auto& file : sources())
    files[file.path] = file.text;
  const auto rows = nlohmann::json::parse(read_text(root() / "tests/sim/planted/bugs.json"));
  report(judge_rows(rows, files),
         "A row of tests/sim/planted/bugs.json is a mistake that the simulator must find. Where "
         "the code has changed, the row follows.");
  MESSAGE("planted bugs: " << rows.size());
}

TEST_CASE("the rule of planted bugs finds what is planted") {
  const std::map<std::string, std::string> files{{"protocols/x.cpp", "if (a)\nif (b)\nif (b)\n"}};
  const nlohmann::json good{{"name", "n"},          {"label", "K1"}, {"what", "w"}, {"file", "protocols/x.cpp"},
                            {"form", "expression"}, {"old", "a"},    {"new", "b"}};
  const auto judged = [&](const nlohmann::json& changes) {
    auto row = good;
    row.update(changes);
    return judge_rows(nlohmann::json::array({row}), files).size();
  };
  const auto object = nlohmann::json::object();
  CHECK(judged(object) == 0);
  CHECK(judged({{"old", "b"}, {"new", "a"}}) == 1);
  CHECK(judged({{"old", "b"}, {"new", "a"}, {"after", "(a)"}}) == 0);
  CHECK(judged({{"old", "a"}, {"after", "(a)"}}) == 1);
  CHECK(judged({{"label", ""}, {"file", "fabric/x.cpp"}}) == 2);
  CHECK(judged({{"form", "text"}}) == 1);
  CHECK(judge_rows(nlohmann::json::array({good, good}), files).size() == 1);
}
