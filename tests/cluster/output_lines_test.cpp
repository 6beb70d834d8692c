#include "runtime/cluster/output_lines.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using troupe::cluster::line_cutter;

TEST_CASE("output is cut into lines wherever its pieces end") {
  const std::string text = "one\n\ntwo\nthree";
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    CAPTURE(piece);
    std::vector<std::string> lines;
    const auto take = [&](std::string_view line) { lines.emplace_back(line); };
    line_cutter cutter;
    for (std::size_t at = 0; at < text.size(); at += piece)
      cutter.add(std::string_view{text}.substr(at, piece), take);
    CHECK(lines == std::vector<std::string>{"one", "", "two"});
    cutter.finish(take);
    CHECK(lines.back() == "three");
  }
}

TEST_CASE("a line without an end is passed on in pieces of the bound") {
  std::vector<std::size_t> sizes;
  const auto take = [&](std::string_view line) { sizes.push_back(line.size()); };
  line_cutter cutter;
  cutter.add(std::string(2 * line_cutter::line_bytes_max + 5, 'x') + "\nend\n", take);
  CHECK(sizes == std::vector<std::size_t>{line_cutter::line_bytes_max, line_cutter::line_bytes_max, 5, 3});
}
