#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "tests/house/source_tree.hpp"

using namespace troupe::house;

namespace {

/// A row of tests/guards.json: what tools/guards takes out of the source, and which test has to fail then.
struct guard_row {
  std::string label, what, file, old, replacement, program, test;
};

constexpr std::size_t labels_kept = 18; ///< K1 to K18

/// Errors as findings: a row has these seven texts and nothing else.
std::vector<guard_row> read_rows(std::string_view text, findings& found) {
  std::vector<guard_row> rows;
  const auto all = nlohmann::json::parse(text);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto text_of = [&](const char* key) {
      const auto at = all[i].find(key);
      if (at == all[i].end() || !at->is_string())
        found.push_back("row " + std::to_string(i + 1) + " has no text \"" + key + "\"");
      return at != all[i].end() && at->is_string() ? at->get<std::string>() : std::string{};
    };
    rows.push_back({text_of("label"), text_of("what"), text_of("file"), text_of("old"), text_of("new"),
                    text_of("program"), text_of("test")});
    if (all[i].size() != 7)
      found.push_back("row " + std::to_string(i + 1) +
                      " has other keys than label, what, file, old, new, program, test");
  }
  return rows;
}

/// The literals of a macro's arguments, put together as the compiler does.
std::string literals_in(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '"')
      continue;
    for (++i; i < text.size() && text[i] != '"'; ++i) {
      i += text[i] == '\\' ? 1 : 0;
      out += text[i];
    }
  }
  return out;
}

std::vector<std::string> names_of_cases(const source_file& file) {
  std::vector<std::string> names;
  constexpr std::string_view mark = "TEST_CASE";
  for (auto i = file.code.find(mark); i != std::string::npos; i = file.code.find(mark, i + 1)) {
    const auto open = file.code.find('(', i);
    const auto close = file.code.find(')', i);
    names.push_back(literals_in(std::string_view{file.text}.substr(open, close - open)));
  }
  return names;
}

/// By component: the names of its test cases.
using cases = std::map<std::string, std::vector<std::string>>;

cases all_cases(const std::vector<source_file>& files) {
  cases out;
  for (const auto& file : files)
    if (file.is_test() && file.path.ends_with("_test.cpp"))
      std::ranges::move(names_of_cases(file),
                        std::back_inserter(out[std::filesystem::path{file.path}.parent_path().filename().string()]));
  return out;
}

/// As doctest does: `*` stands for any text.
bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty())
    return name.empty();
  if (pattern.front() == '*')
    return matches(pattern.substr(1), name) || (!name.empty() && matches(pattern, name.substr(1)));
  return !name.empty() && pattern.front() == name.front() && matches(pattern.substr(1), name.substr(1));
}

std::size_t count_of(std::string_view part, std::string_view text) {
  std::size_t count = 0;
  for (auto i = text.find(part); i != std::string_view::npos; i = text.find(part, i + 1))
    ++count;
  return count;
}

/// `text_of`: of a file of the checkout; nothing where there is none.
template <class TextOf>
findings validate_rows(const std::vector<guard_row>& rows, const cases& known, TextOf text_of) {
  findings found;
  std::set<std::string> labels;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& row = rows[i];
    const auto wrong = [&](const std::string& what) {
      found.push_back("row " + std::to_string(i + 1) + " (" + row.label + ", " + row.what + "): " + what);
    };
    labels.insert(row.label);
    if (row.label.empty() || row.what.empty() || row.old.empty() || row.old == row.replacement)
      wrong("a row has a label, a sentence, and a text that becomes another one");
    if (!seen.insert(row.file + '\n' + row.old + '\n' + row.replacement).second)
      wrong("another row takes the same guard away");
    const auto text = text_of(row.file);
    if (!text)
      wrong("no such file: " + row.file);
    else if (const auto times = count_of(row.old, *text); times != 1)
      wrong(row.file + " holds its text " + std::to_string(times) + " times");
    const bool is_program = row.program.starts_with("test_") && known.contains(row.program.substr(5));
    if (!is_program)
      wrong("no such test program: " + row.program);
    else if (const auto times = std::ranges::count_if(known.at(row.program.substr(5)),
                                                      [&](const auto& name) { return matches(row.test, name); });
             times != 1)
      wrong(std::to_string(times) + " test cases of " + row.program + " are named " + row.test);
  }
  for (std::size_t number = 1; number <= labels_kept; ++number)
    if (const auto label = "K" + std::to_string(number); !labels.contains(label))
      found.push_back("no guard of " + label);
  return found;
}

} // namespace

TEST_CASE("every guard that tools/guards takes away stands in the source, and its test is there") {
  findings found;
  const auto rows = read_rows(read_text(root() / "tests/guards.json"), found);
  std::ranges::move(validate_rows(rows, all_cases(sources()),
                                  [](const std::string& path) {
                                    const bool there = std::filesystem::is_regular_file(root() / path);
                                    return there ? std::optional{read_text(root() / path)} : std::nullopt;
                                  }),
                    std::back_inserter(found));
  report(found, "A row of tests/guards.json says which test fails when a guard is taken away. Where code or test have "
                "changed, the row follows; where the guard is gone, so is its promise.");
  MESSAGE("guards: " << rows.size());
}

TEST_CASE("the rule of guards finds what is planted") {
  const auto known = all_cases({read_cpp("tests/gpu/x_test.cpp", "TEST_CASE(\"K1: a sentence (with a bracket), \"\n"
                                                                 "          \"and more\") {}\n"
                                                                 "TEST_CASE_FIXTURE(f, \"K2: b\") {}\n")});
  REQUIRE(known.at("gpu") == std::vector<std::string>{"K1: a sentence (with a bracket), and more", "K2: b"});
  const auto text_of = [](const std::string& path) {
    return path == "gpu/x.cpp" ? std::optional<std::string>{"if (a)\nif (b)\nif (b)\n"} : std::nullopt;
  };
  const auto judged = [&](const guard_row& first) {
    std::vector<guard_row> rows{first};
    for (std::size_t number = 1; number <= labels_kept; ++number)
      rows.push_back({"K" + std::to_string(number), "x", "gpu/x.cpp", "if (a)", "K" + std::to_string(number),
                      "test_gpu", "K2: b"});
    return validate_rows(rows, known, text_of);
  };
  const guard_row good{"K1", "a is asked", "gpu/x.cpp", "if (a)", "if (true)", "test_gpu", "K1: a sentence*"};
  CHECK(judged(good).empty());
  const std::string place = "row 1 (K1, a is asked): ";
  const auto with = [&](auto change) {
    auto row = good;
    change(row);
    return judged(row);
  };
  CHECK(with([](guard_row& row) { row.file = "gpu/y.cpp"; }) == findings{place + "no such file: gpu/y.cpp"});
  CHECK(with([](guard_row& row) { row.old = "if (b)"; }) == findings{place + "gpu/x.cpp holds its text 2 times"});
  CHECK(with([](guard_row& row) { row.old = "if (c)"; }) == findings{place + "gpu/x.cpp holds its text 0 times"});
  CHECK(with([](guard_row& row) { row.program = "test_x"; }) == findings{place + "no such test program: test_x"});
  CHECK(with([](guard_row& row) { row.test = "K3: b"; }) ==
        findings{place + "0 test cases of test_gpu are named K3: b"});
  CHECK(with([](guard_row& row) { row.test = "K*"; }) == findings{place + "2 test cases of test_gpu are named K*"});
  CHECK(with([](guard_row& row) { row.replacement = row.old; }).size() == 1);
  CHECK(validate_rows({good, good}, known, text_of).front() ==
        "row 2 (K1, a is asked): another row takes the same guard away");
  CHECK(validate_rows({good}, known, text_of).size() == labels_kept - 1);

  findings found;
  CHECK(read_rows("[{\"label\": \"K1\", \"what\": 7}]", found).size() == 1);
  CHECK(found.size() == 7); // six texts, and other keys
}
