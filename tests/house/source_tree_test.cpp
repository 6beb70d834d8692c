#include "tests/house/source_tree.hpp"

using namespace troupe::house;

TEST_CASE("the house tells code, comments and literals apart") {
  const auto file = read_cpp("x.cpp", "int a = 1'000; // one\n"
                                      "auto s = \"two // not a comment\"; /* three\nfour */ char q = '\"';\n"
                                      "auto r = R\"x(five \" )x\"; int six;\n");
  CHECK(file.code.size() == file.text.size());
  CHECK(file.comments.size() == file.text.size());
  for (const auto* word : {"one", "three", "four"})
    CHECK(file.comments.find(word) != std::string::npos);
  for (const auto* word : {"one", "two", "three", "four", "five", "not a comment"})
    CHECK(file.code.find(word) == std::string::npos);
  for (const auto* word : {"1'000", "char q", "int six"})
    CHECK(file.code.find(word) != std::string::npos);
  CHECK(file.comments.find("two") == std::string::npos);
}

TEST_CASE("the house sees the whole tree") {
  const auto has = [](std::string_view path) {
    return std::ranges::any_of(sources(), [&](const source_file& file) { return file.path == path; });
  };
  CHECK(has("protocols/serve/client_messages.hpp"));
  CHECK(has("runtime/base/exit_code.hpp"));
  CHECK(has("tests/house/source_tree.hpp"));
}
