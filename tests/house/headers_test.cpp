#include "tests/house/source_tree.hpp"

using namespace troupe::house;

namespace {

constexpr std::size_t header_lines_max = 400;
constexpr std::size_t source_lines_max = 500;

std::size_t lines_of(const source_file& file) {
  return static_cast<std::size_t>(std::ranges::count(file.text, '\n'));
}

findings unguarded(const source_file& file) {
  if (!file.is_header() || file.code.find("#pragma once\n") != std::string::npos)
    return {};
  return {at(file, 0, "has no #pragma once")};
}

findings overlong(const source_file& file) {
  if (!file.is_header() || lines_of(file) < header_lines_max)
    return {};
  return {at(file, 0, std::to_string(lines_of(file)) + " lines")};
}

/// Of the product; what is one long table is named so.
findings overlong_source(const source_file& file) {
  if (file.is_header() || file.is_test() || file.path.ends_with("_tables.cpp") || lines_of(file) <= source_lines_max)
    return {};
  return {at(file, 0, std::to_string(lines_of(file)) + " lines")};
}

findings leaking_namespace(const source_file& file) {
  const auto found = file.code.find("using namespace");
  if (!file.is_header() || file.is_test() || found == std::string::npos)
    return {};
  return {at(file, found, "using namespace")};
}

/// Classes at the left margin without a `///` line above them (a `template` line may stand between).
findings undocumented_classes(const source_file& file) {
  findings found;
  if (!file.is_header() || !file.under("protocols/"))
    return found;
  for (auto i = file.code.find("\nclass "); i != std::string::npos; i = file.code.find("\nclass ", i + 1)) {
    const auto line_end = file.code.find('\n', i + 1);
    if (file.code.substr(i, line_end - i).ends_with(";"))
      continue;
    auto above = i;
    std::string line;
    do {
      const auto begin = file.text.rfind('\n', above - 1);
      const auto first = begin == std::string::npos ? 0 : begin + 1;
      line = file.text.substr(first, above - first);
      above = begin == std::string::npos ? 0 : begin;
    } while (line.starts_with("template") && above > 0);
    if (!line.starts_with("///"))
      found.push_back(at(file, i + 1, "class without a doc comment"));
  }
  return found;
}

} // namespace

TEST_CASE("every header is guarded by #pragma once") {
  report(over_all(unguarded), "One form of include guard, and none that can be forgotten or copied wrong.");
}

TEST_CASE("headers stay short") {
  report(over_all(overlong), "A header that does not fit into a reader's head hides two things in one place; 400 lines "
                             "is the bound, 120 the aim.");
  std::vector<std::size_t> lengths;
  for (const auto& file : sources())
    if (file.is_header() && !file.is_test())
      lengths.push_back(lines_of(file));
  std::ranges::sort(lengths);
  REQUIRE(!lengths.empty());
  MESSAGE("headers: " << lengths.size() << ", median " << lengths[lengths.size() / 2] << " lines, longest "
                      << lengths.back());
}

TEST_CASE("sources of the product stay short") {
  report(over_all(overlong_source), "Split it where one part asks another one question; 500 lines is the bound.");
}

TEST_CASE("no header opens a namespace to those who include it") {
  report(over_all(leaking_namespace), "A using-directive in a header changes what names mean in files far away.");
}

TEST_CASE("every class of protocols says what problem it solves") {
  report(over_all(undocumented_classes), "The machines are the product: a reader learns from the comment above the "
                                         "class what it decides and why, before any member.");
}

TEST_CASE("the rules of headers find what is planted") {
  CHECK(unguarded(read_cpp("gpu/x.hpp", "// #pragma once\nint a;\n")).size() == 1);
  CHECK(unguarded(read_cpp("gpu/x.hpp", "#pragma once\n")).empty());
  CHECK(unguarded(read_cpp("gpu/x.cpp", "int a;\n")).empty());

  CHECK(overlong(read_cpp("gpu/x.hpp", std::string(header_lines_max, '\n'))).size() == 1);
  CHECK(overlong(read_cpp("gpu/x.hpp", std::string(header_lines_max - 1, '\n'))).empty());

  CHECK(overlong_source(read_cpp("gpu/x.cpp", std::string(source_lines_max + 1, '\n'))).size() == 1);
  for (const auto* const path : {"tests/gpu/x_test.cpp", "gpu/x_tables.cpp"})
    CHECK(overlong_source(read_cpp(path, std::string(source_lines_max + 1, '\n'))).empty());
  CHECK(overlong_source(read_cpp("gpu/x.cpp", std::string(source_lines_max, '\n'))).empty());

  CHECK(leaking_namespace(read_cpp("gpu/x.hpp", "using namespace std;\n")).size() == 1);
  CHECK(leaking_namespace(read_cpp("gpu/x.cpp", "using namespace std;\n")).empty());

  CHECK(undocumented_classes(read_cpp("protocols/x.hpp", "#pragma once\n\nclass a {\n};\n")) ==
        findings{"protocols/x.hpp:3: class without a doc comment"});
  CHECK(undocumented_classes(read_cpp("protocols/x.hpp", "#pragma once\n// note\nclass a {\n};\n")).size() == 1);
  CHECK(undocumented_classes(read_cpp("protocols/x.hpp", "/// Why.\ntemplate <class T>\nclass a {\n};\n")).empty());
  CHECK(undocumented_classes(read_cpp("protocols/x.hpp", "#pragma once\n\nclass a;\n")).empty());
}
