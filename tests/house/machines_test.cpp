#include <map>
#include <optional>
#include <regex>
#include <set>

#include "tests/house/source_tree.hpp"

using namespace troupe::house;

namespace {

using labels = std::set<std::string>;

/// The labels behind "Contract:" in the doc comment that ends where `declared` begins.
labels labels_above(const source_file& file, std::size_t declared) {
  std::string comment;
  for (auto end = declared; end > 0;) {
    const auto before = file.text.rfind('\n', end - 1);
    const auto begin = before == std::string::npos ? 0 : before + 1;
    const std::string_view line{file.text.data() + begin, end - begin};
    if (line.starts_with("///"))
      comment = std::string{line.substr(3)} + ' ' + comment;
    else if (!line.starts_with("template"))
      break;
    end = before == std::string::npos ? 0 : before;
  }
  static const std::regex list{R"(Contract:\s+([A-K]\d+(,\s+[A-K]\d+)*))"};
  static const std::regex label{R"([A-K]\d+)"};
  labels found;
  for (std::sregex_iterator each{comment.begin(), comment.end(), list}; each != std::sregex_iterator{}; ++each) {
    const auto text = each->str(1);
    for (std::sregex_iterator one{text.begin(), text.end(), label}; one != std::sregex_iterator{}; ++one)
      found.insert(one->str());
  }
  return found;
}

/// Where a header of protocols defines a class or declares a function of that name at the left margin.
std::optional<std::size_t> declaration_of(const source_file& file, const std::string& name) {
  const std::regex form{"\n((class|struct) " + name + R"(( final)? \{|[A-Za-z][^\n;={}]* )" + name + R"(\())"};
  std::smatch found;
  if (!std::regex_search(file.code, found, form))
    return std::nullopt;
  return static_cast<std::size_t>(found.position(0));
}

/// Names and labels of a row "| `a`, `b` (...) | what | A1 B2 |".
struct machine_row {
  std::vector<std::string> names;
  labels contracts;
};

std::vector<machine_row> rows_of(std::string_view readme) {
  std::vector<machine_row> rows;
  const auto section = readme.find("\n## Machines\n");
  REQUIRE(section != std::string_view::npos);
  const auto text = readme.substr(section, readme.find("\n## ", section + 1) - section);
  static const std::regex name{"`([a-z_]+)`"};
  static const std::regex label{R"(\b[A-K]\d+\b)"};
  for (auto i = text.find("\n| `"); i != std::string_view::npos; i = text.find("\n| `", i + 1)) {
    const std::string row{text.substr(i + 1, text.find('\n', i + 1) - i - 1)};
    const auto first = row.find(" | ");
    const auto last = row.rfind(" | ");
    const auto named = row.substr(0, first);
    const auto cited = row.substr(last);
    machine_row made;
    for (std::sregex_iterator each{named.begin(), named.end(), name}; each != std::sregex_iterator{}; ++each)
      made.names.push_back(each->str(1));
    for (std::sregex_iterator each{cited.begin(), cited.end(), label}; each != std::sregex_iterator{}; ++each)
      made.contracts.insert(each->str());
    rows.push_back(std::move(made));
  }
  return rows;
}

std::string text_of(const labels& some) {
  std::string text;
  for (const auto& each : some)
    text += ' ' + each;
  return text;
}

findings compare(const std::vector<source_file>& files, const std::vector<machine_row>& rows) {
  findings wrong;
  std::set<std::string> named;
  for (const auto& row : rows) {
    labels stated;
    for (const auto& name : row.names) {
      named.insert(name);
      bool declared = false;
      for (const auto& file : files)
        if (const auto where =
                file.is_header() && file.under("protocols/") ? declaration_of(file, name) : std::nullopt) {
          declared = true;
          stated.merge(labels_above(file, *where));
        }
      if (!declared)
        wrong.push_back(name + " stands in the table and in no header");
    }
    if (stated != row.contracts)
      wrong.push_back(row.names.front() + ": the header states" + text_of(stated) + ", the table" +
                      text_of(row.contracts));
  }
  static const std::regex machine{R"(\nclass ([a-z_]+_machine)( final)? \{)"};
  for (const auto& file : files)
    if (file.is_header() && file.under("protocols/"))
      for (std::sregex_iterator each{file.code.begin(), file.code.end(), machine}; each != std::sregex_iterator{};
           ++each)
        if (!named.contains(each->str(1)))
          wrong.push_back(each->str(1) + " does not stand in the table");
  return wrong;
}

} // namespace

TEST_CASE("the table of machines states the contracts that their headers state") {
  report(compare(sources(), rows_of(read_text(root() / "protocols/README.md"))),
         "Who reads the table must find the same contracts at the class: the labels behind \"Contract:\" and those of "
         "the last column are the same.");
}

TEST_CASE("the rule of machines finds what is planted") {
  const std::string table = "\n## Machines\n\n| machine | decides | contracts |\n| --- | --- | --- |\n"
                            "| `a_machine`, `ask` (`b.hpp`) | when | A1 B2 |\n\n## Lives\n| `c` | d | E1 |\n";
  const auto rows = rows_of(table);
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].names == std::vector<std::string>{"a_machine", "ask"});
  CHECK(rows[0].contracts == labels{"A1", "B2"});
  const auto found = [&](const std::string& text) { return compare({read_cpp("protocols/a.hpp", text)}, rows).size(); };
  const std::string both =
      "\n/// Asks.\n/// Contract: A1. Never C3.\nclass a_machine {\n};\n\n/// Contract: A1,\n/// B2.\n"
      "bool ask(int it);\n";
  CHECK(found(both) == 0);
  CHECK(found(both + "\n/// Another.\nclass b_machine {\n};\n") == 1);
  CHECK(found("\n/// Contract: A1.\nclass a_machine {\n};\n/// Contract: A1.\nbool ask(int it);\n") == 1);
  CHECK(found("\n/// Contract: A1, B2.\nclass a_machine {\n};\n") == 1);
  CHECK(found("\nclass a_machine;\nbool ask(int it);\n") == 2);
}
