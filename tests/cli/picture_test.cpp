#include <doctest/doctest.h>

#include "tests/cli/command.hpp"

using namespace troupe::tests;

namespace {

/// Refused before anything is started: one line that names the file, exit code 3.
void check_refused_early(const scratch_folder& here, std::vector<std::string> questions, std::string_view wanted) {
  const auto spec = here.write("one.json", reader_spec(one_rank(), R"(, "limits": {"picture_bytes_max": 65536})"));
  std::vector<std::string> arguments{"run", spec, "--job", here.job(), "--run-dir", here / "jobs"};
  arguments.insert(arguments.end(), questions.begin(), questions.end());
  command run{std::move(arguments)};
  const auto end = run.finish(5s);
  CAPTURE(end.err);
  CHECK(end.exit_code == 3);
  CHECK(end.out.empty());
  CHECK(lines_in(end.err) == 1);
  CHECK(has(end.err, wanted));
  CHECK_FALSE(std::filesystem::exists(here / "jobs"));
  CHECK(ranks_of(run.pid()).empty());
}

} // namespace

TEST_CASE("A picture that cannot be read is refused before anything is started") {
  const scratch_folder here;
  check_refused_early(here, {"--prompt", "a", "--image", here / "none.png"}, "none.png: cannot be read: No such file");
  check_refused_early(here, {"--prompt", "a", "--image", here.write("empty.png", "")}, "empty.png: 0 bytes");
  check_refused_early(here, {"--prompt", "a", "--image", here / "."}, "is no file");
  check_refused_early(here, {"--prompt", "a", "--image", here.write("big.png", std::string(65537, 'x'))},
                      "big.png: 65537 bytes; at most 65536");
  // the good one beside it is not asked either
  check_refused_early(here, {"--prompt", "a", "--image", golden("golden-00.png"), here / "none.png"}, "none.png");
}

TEST_CASE("A list of pages that is wrong is refused with its line before anything is started") {
  const scratch_folder here;
  const auto pages = [&](std::string_view text) {
    return std::vector<std::string>{"--pages", here.write("pages.json", text)};
  };
  check_refused_early(here, {"--pages", here / "none.json"}, "none.json: No such file");
  check_refused_early(here, pages("{}"), "pages.json:1:1: expected a list");
  check_refused_early(here, pages("[]"), "pages.json:1:1: expected a list");
  check_refused_early(here, pages("[\n  {\"picture\": \"a.png\"}]"), "pages.json:2:4: unknown key \"picture\"");
  check_refused_early(here, pages("[{\"image\": 7, \"prompt\": \"a\"}]"), "image must be a string");
  check_refused_early(here, pages("[{\"image\": \"a.png\"}]"), "no prompt");
  check_refused_early(here, pages("[{\"image\": \"a.png\", \"prompt\": \"b\"}]"), "a.png: cannot be read");
  check_refused_early(here, pages("[{"), "pages.json:1:");
}
