#include "tests/house/source_tree.hpp"

using namespace troupe::house;

namespace {

/// Numbers of the enumerators of exit_code that the README's table ("| 4 | ...") does not state.
findings unstated_exit_codes(const source_file& header, std::string_view readme) {
  findings found;
  const auto body = header.code.find("enum class exit_code");
  REQUIRE(body != std::string::npos);
  for (auto i = header.code.find('=', body); i != std::string::npos; i = header.code.find('=', i + 1)) {
    const auto first = header.code.find_first_not_of(' ', i + 1);
    const auto number = header.code.substr(first, header.code.find(',', first) - first);
    if (readme.find("| " + number + " |") == std::string_view::npos)
      found.push_back(at(header, i, "exit code " + number + " is not in the README"));
  }
  return found;
}

/// Paths in backquotes that name nothing in the checkout.
findings dead_paths(const std::string& document, std::string_view text) {
  static const std::vector<std::string_view> folders{"protocols/", "runtime/", "fabric/", "gpu/",
                                                     "actors/",    "tools/",   "deploy/", "tests/"};
  findings found;
  for (auto open = text.find('`'); open != std::string_view::npos;) {
    const auto close = text.find('`', open + 1);
    if (close == std::string_view::npos)
      break;
    const auto quoted = std::string(text.substr(open + 1, close - open - 1));
    const bool is_path = quoted.find_first_of(" *<>\n") == std::string::npos &&
                         std::ranges::any_of(folders, [&](auto folder) { return quoted.starts_with(folder); });
    if (is_path && !std::filesystem::exists(root() / quoted))
      found.push_back(document + ":" + std::to_string(line_of(text, open)) + ": no such file: " + quoted);
    open = text.find('`', close + 1);
  }
  return found;
}

} // namespace

TEST_CASE("the README states every exit code") {
  const auto path = std::string("runtime/base/exit_code.hpp");
  report(unstated_exit_codes(read_cpp(path, read_text(root() / path)), read_text(root() / "README.md")),
         "A script that starts a cluster branches on the exit code; one that is not documented cannot be relied on.");
}

TEST_CASE("documents name files that are there") {
  findings found;
  std::vector<std::string> documents{"README.md",
                                     "deploy/docs/DESIGN.md",
                                     "deploy/docs/CONTRACTS.md",
                                     "deploy/docs/RELIABILITY.md",
                                     "deploy/docs/SECURITY.md",
                                     "deploy/docs/THREADS.md",
                                     "deploy/docs/PROGRAMS.md",
                                     "deploy/docs/TOUR.md"};
  for (const auto& entry : std::filesystem::directory_iterator(root() / "deploy/docs/manuals"))
    documents.push_back("deploy/docs/manuals/" + entry.path().filename().string());
  for (const auto& document : documents)
    std::ranges::move(dead_paths(document, read_text(root() / document)), std::back_inserter(found));
  report(found, "A document that points nowhere is no longer true.");
}

TEST_CASE("the rules of documents find what is planted") {
  const auto header = read_cpp("x.hpp", "enum class exit_code : int {\n  done = 0,\n  failed = 1,\n};\n");
  CHECK(unstated_exit_codes(header, "| 0 | done |\n") == findings{"x.hpp:3: exit code 1 is not in the README"});
  CHECK(unstated_exit_codes(header, "| 0 | done |\n| 1 | failed |\n").empty());

  CHECK(dead_paths("R.md", "see `fabric/nowhere.hpp`\n") == findings{"R.md:1: no such file: fabric/nowhere.hpp"});
  CHECK(dead_paths("R.md", "see `fabric/lanes/lane.hpp`, `tools/check --quick`, `nowhere/at.all`\n").empty());
}
