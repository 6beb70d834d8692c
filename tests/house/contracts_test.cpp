#include <map>
#include <set>

#include "tests/house/source_tree.hpp"

using namespace troupe::house;

namespace {

struct citation {
  std::size_t offset;
  std::string label;
};

/// "A15" and the like, not inside a word or quotes. Safetensors' names of element types look alike.
std::vector<citation> labels_in(std::string_view text) {
  static const std::set<std::string_view> element_types{"F16", "F32", "F64", "I16", "I32", "I64"};
  std::vector<citation> found;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] < 'A' || text[i] > 'K' || (i > 0 && (is_word(text[i - 1]) || text[i - 1] == '"' || text[i - 1] == '`')))
      continue;
    auto end = i + 1;
    while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end])) != 0)
      ++end;
    const auto label = text.substr(i, end - i);
    if (label.size() < 2 || label.size() > 3 || (end < text.size() && (is_word(text[end]) || text[end] == '+')))
      continue;
    if (!element_types.contains(label))
      found.push_back({i, std::string(label)});
  }
  return found;
}

/// Names of the test cases and subcases: where a test cites.
std::string test_names(const source_file& file) {
  std::string names(file.text.size(), ' ');
  for (const std::string_view mark : {"TEST_CASE", "SUBCASE"})
    for (auto i = file.code.find(mark); i != std::string::npos; i = file.code.find(mark, i + 1))
      for (auto j = file.code.find('(', i); j < file.code.find(')', i); ++j)
        names[j] = file.text[j] == '"' ? ' ' : file.text[j];
  return names;
}

/// Labels in the first argument of TROUPE_ASSERT.
std::string asserted(const source_file& file) {
  std::string labels(file.text.size(), ' ');
  constexpr std::string_view mark = "TROUPE_ASSERT(";
  for (auto i = file.code.find(mark); i != std::string::npos; i = file.code.find(mark, i + 1))
    for (auto j = i + mark.size(); j < file.text.size() && file.text[j] != ','; ++j)
      labels[j] = file.text[j] == '"' ? ' ' : file.text[j];
  return labels;
}

std::vector<citation> citations(const source_file& file) {
  auto found = labels_in(file.comments);
  std::ranges::move(labels_in(file.is_test() ? test_names(file) : asserted(file)), std::back_inserter(found));
  return found;
}

std::set<std::string> labels_of_list(std::string_view list) {
  std::set<std::string> labels;
  constexpr std::string_view mark = "\n- **";
  for (auto i = list.find(mark); i != std::string_view::npos; i = list.find(mark, i + 1)) {
    const auto first = i + mark.size();
    const auto label = std::string(list.substr(first, list.find("**", first) - first));
    CHECK_MESSAGE(labels.insert(label).second, "label stands twice: ", label);
  }
  return labels;
}

findings unknown_labels(const source_file& file, const std::set<std::string>& known) {
  findings found;
  for (const auto& cited : citations(file))
    if (!known.contains(cited.label))
      found.push_back(at(file, cited.offset, "no such contract: " + cited.label));
  return found;
}

/// Labels that a line "- B2 waits for ..." of the list's last section names.
std::set<std::string> waiting_of_list(std::string_view list) {
  std::set<std::string> waiting;
  const auto section = list.find("\n## What waits\n");
  REQUIRE(section != std::string_view::npos);
  constexpr std::string_view mark = "\n- ";
  for (auto i = list.find(mark, section); i != std::string_view::npos; i = list.find(mark, i + 1)) {
    const auto first = i + mark.size();
    const auto label = std::string(list.substr(first, list.find(' ', first) - first));
    CHECK_MESSAGE(list.substr(first + label.size()).starts_with(" waits for "), "waits for what: ", label);
    CHECK_MESSAGE(waiting.insert(label).second, "waits twice: ", label);
  }
  return waiting;
}

struct citing {
  std::set<std::string> enforced; ///< in code
  std::set<std::string> tested;   ///< in the name of a test
};

citing citing_of(const std::vector<source_file>& files) {
  citing found;
  for (const auto& file : files)
    for (const auto& one : file.is_test() ? labels_in(test_names(file)) : citations(file))
      (file.is_test() ? found.tested : found.enforced).insert(one.label);
  return found;
}

constexpr std::string_view sections_kept = "BCDGK";

/// What is wrong with these sections: a label is cited in code and by a test, or it waits, and not both.
findings validate_sections(const std::set<std::string>& known, const std::set<std::string>& waiting,
                           const citing& found) {
  findings wrong;
  for (const auto& label : known) {
    if (sections_kept.find(label[0]) == std::string_view::npos)
      continue;
    const bool kept = found.enforced.contains(label) && found.tested.contains(label);
    if (kept && waiting.contains(label))
      wrong.push_back(label + " is enforced and tested, and still stands under what waits");
    else if (!kept && !waiting.contains(label))
      wrong.push_back(label + " is " + (found.enforced.contains(label) ? "" : "not ") + "cited in code and " +
                      (found.tested.contains(label) ? "" : "not ") + "by a test, and does not wait for anything");
  }
  for (const auto& label : waiting)
    if (!known.contains(label))
      wrong.push_back(label + " waits, and is no contract");
  return wrong;
}

} // namespace

TEST_CASE("every contract of groups, failures, replay and capture is enforced and tested, or waits for something") {
  const auto list = read_text(root() / "deploy/docs/CONTRACTS.md");
  report(
      validate_sections(labels_of_list(list), waiting_of_list(list), citing_of(sources())),
      "A promise that nothing keeps, or that no test breaks, is a wish: cite it where it is enforced and in the name "
      "of the test that breaks it, or say what it waits for (deploy/docs/CONTRACTS.md, What waits).");
}

TEST_CASE("the rule of sections finds what is planted") {
  const std::set<std::string> known{"A1", "B1", "B2", "C1", "D1"};
  const auto found = citing_of({read_cpp("fabric/x.cpp", "// B1, C1\n"),
                                read_cpp("tests/x_test.cpp", "TEST_CASE(\"B1: a\") {}\nTEST_CASE(\"D1: b\") {}\n")});
  CHECK(validate_sections(known, {"B2"}, found) ==
        findings{"C1 is cited in code and not by a test, and does not wait for anything",
                 "D1 is not cited in code and by a test, and does not wait for anything"});
  CHECK(validate_sections(known, {"B1", "B2", "C1", "D1", "D99"}, found) ==
        findings{"B1 is enforced and tested, and still stands under what waits", "D99 waits, and is no contract"});
  CHECK(waiting_of_list("- **B2** x\n\n## What waits\n\n- B2 waits for NCCL: y\n") == std::set<std::string>{"B2"});
}

TEST_CASE("every contract that is cited stands in the list") {
  const auto known = labels_of_list(read_text(root() / "deploy/docs/CONTRACTS.md"));
  REQUIRE(known.size() >= 318); // labels are never taken back
  report(over_all([&](const source_file& file) { return unknown_labels(file, known); }),
         "A label is how a reader gets from code to the rule that it keeps (deploy/docs/CONTRACTS.md); one that leads "
         "nowhere is worse than none.");

  const auto [enforced, tested] = citing_of(sources());
  const auto both = std::ranges::count_if(enforced, [&](const auto& label) { return tested.contains(label); });
  MESSAGE("contracts: " << known.size() << ", cited where enforced " << enforced.size() << ", by a test "
                        << tested.size() << ", by both " << both);
}

TEST_CASE("the rule of labels finds what is planted") {
  const std::set<std::string> known{"A1", "C15"};
  const auto judged = [&](const char* path, const char* text) { return unknown_labels(read_cpp(path, text), known); };
  CHECK(judged("fabric/x.cpp", "// Contract: A1, A77.\n") == findings{"fabric/x.cpp:1: no such contract: A77"});
  CHECK(judged("fabric/x.cpp", "TROUPE_ASSERT(\"J9\", ok);\n").size() == 1);
  CHECK(judged("tests/x_test.cpp", "TEST_CASE(\"B4: a sentence (with a bracket)\") {}\n").size() == 1);
  CHECK(judged("fabric/x.cpp", "// C15, an H200, bf16, C++20, `F32`, a D2H copy; int B7 = 0;\nint B7;\n").size() == 1);
  CHECK(judged("fabric/x.cpp", "int B7 = 0; auto s = \"B8\";\n").empty());
  CHECK(judged("tests/x_test.cpp", "TEST_CASE(\"A1, C15: a sentence\") {}\n").empty());
}
