#include <doctest/doctest.h>

#include "tests/cli/command.hpp"

using namespace troupe::tests;

namespace {

/// A wrong command line: one line on stderr, nothing on stdout, exit code 2.
void check_usage_error(std::vector<std::string> arguments, std::string_view wanted) {
  const auto end = run_troupe(std::move(arguments));
  CAPTURE(end.err);
  CHECK(end.exit_code == 2);
  CHECK(end.out.empty());
  CHECK(lines_in(end.err) == 1);
  CHECK(end.err.starts_with("troupe: "));
  CHECK(has(end.err, wanted));
  CHECK(has(end.err, "--help"));
}

} // namespace

TEST_CASE("An unknown command or option names the nearest one, in one line") {
  check_usage_error({"rnu"}, "unknown command rnu; did you mean run?");
  check_usage_error({"spec", "valdate"}, "unknown command valdate; did you mean validate?");
  check_usage_error({"run", "x.json", "--promt", "a"}, "unknown option --promt; did you mean --prompt?");
  check_usage_error({"up", "x.json", "--jbo=a"}, "unknown option --jbo; did you mean --job?");
  check_usage_error({"ps", "everything"}, "unexpected argument everything");
  check_usage_error({"frobnicate"}, "unknown command frobnicate (");
}

TEST_CASE("A missing or wrong argument is said in one line") {
  check_usage_error({}, "subcommand");
  check_usage_error({"run"}, "SPEC");
  check_usage_error({"run", "x.json"}, "--prompt");
  check_usage_error({"run", "x.json", "--prompt", "a", "--max-tokens", "0"}, "max-tokens");
  check_usage_error({"run", "x.json", "--prompt", "a", "--max-tokens", "many"}, "max-tokens");
  check_usage_error({"run", "x.json", "--prompt", "a", "--top-p", "1.5"}, "top-p");
  for (const char* seed : {"-1", "18446744073709551616", "1.5", "many"})
    check_usage_error({"run", "x.json", "--prompt", "a", "--seed", seed}, "no whole number from 0 to");
  check_usage_error({"drill", "--matrix", "--sample", "-1"}, "no whole number from 0 to");
  check_usage_error({"run", "x.json", "--prompt", "a", "--pages", "p.json"}, "--pages");
  check_usage_error({"logs", "--rank", "first"}, "rank");
}

TEST_CASE("An empty text is never taken for an option that was left out") {
  check_usage_error({"ps", "--run-dir", ""}, "--run-dir: an empty text");
  check_usage_error({"down", "--job", ""}, "--job: an empty text");
  check_usage_error({"up", "", "--run-dir", "x"}, "SPEC: an empty text");
  check_usage_error({"trace", ""}, "RUN_DIR: an empty text");
  check_usage_error({"run", "x.json", "--image", "a.png", "", "--prompt", "a"}, "--image: an empty text");
  check_usage_error({"inject", "a", ""}, "RULE: an empty text");
}

TEST_CASE("Help stands on stdout, with examples and exit codes, and no internal command") {
  const auto all = run_troupe({"--help"});
  CHECK(all.exit_code == 0);
  CHECK(all.err.empty());
  for (const auto* word :
       {"run", "up", "ask", "ps", "logs", "trace", "down", "spec", "Examples:", "Exit codes:", "130"})
    CHECK(has(all.out, word));
  CHECK_FALSE(has(all.out, "rank  "));

  for (const auto* name : {"run", "up", "ask", "ps", "logs", "trace", "down", "spec"}) {
    CAPTURE(name);
    const auto help = run_troupe({name, "--help"});
    CHECK(help.exit_code == 0);
    CHECK(has(help.out, std::string{"Usage: troupe "} + name));
    CHECK(has(help.out, "Example"));
  }
}

TEST_CASE("--version says name and version") {
  const auto end = run_troupe({"--version"});
  CHECK(end.exit_code == 0);
  CHECK(end.out.starts_with("troupe 0."));
}

TEST_CASE("Output that is no terminal has no escape sequences") {
  for (const auto& arguments : {std::vector<std::string>{"--help"}, {"ps"}, {"rnu"}}) {
    const auto end = run_troupe(arguments);
    CHECK_FALSE(has(end.out + end.err, "\033"));
  }
}
