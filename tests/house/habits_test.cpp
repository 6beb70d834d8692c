#include <array>
#include <map>

#include "tests/house/source_tree.hpp"

using namespace troupe::house;

namespace {

/// Text that stands nowhere in code, but for the files that are named with their reason.
struct habit {
  std::string_view text;
  std::string_view reason;
  std::map<std::string, std::string> exceptions = {};
  bool in_tests = true; ///< whether it holds there too
};

const std::vector<habit> habits{
    {"sleep_for",
     "A sleep is a guess at how long an event takes: wait for the event, with a deadline.",
     {{"tools/bench/cluster_bench.cpp", "what an idle rank costs is measured over a length of time"}}},
    {"sleep_until", "A sleep is a guess at how long an event takes: wait for the event, with a deadline."},
    {"usleep", "A sleep is a guess at how long an event takes: wait for the event, with a deadline."},
    {"nanosleep", "A sleep is a guess at how long an event takes: wait for the event, with a deadline."},
    {"catch (...)", "A fault that nobody expected must end the process with its cause, not go on unseen."},
    {"rand", "Nothing random without its seed in the message: use an engine of <random> that was given one."},
    {"srand", "Nothing random without its seed in the message: use an engine of <random> that was given one."},
    {"infinite", "Every wait has a deadline; a request to a dead actor is never answered."},
    {"detach",
     "A thread that nobody joins outlives what it uses; threads have an owner.",
     {{"runtime/cluster/supervisor_pulse.cpp",
       "the watch on the supervisor lives as long as the process, which it ends"},
      {"runtime/base/outlet.cpp", "nothing can call a thread back that is in a write to a terminal which is held"},
      {"gpu/cuda/nccl_collectives.cpp",
       "a library's start that waits for peers that never come ends with the process"}}},
    {"fmt::print", "It throws where its stream is full or gone: a process speaks through base/outlet (K6)."},
    {"std::cout",
     "It does not say that it is full, and makes a supervisor wait: a process speaks through base/outlet (K6).",
     {{"tests/gpu/peer_collectives_test.cpp", "a test says why it is skipped"}}},
    {"std::istreambuf_iterator",
     "It throws where a file of /proc goes while it is read, or is a directory: base/regular_file, or a stream's "
     "rdbuf.",
     {{"tools/bench/cluster_bench.cpp", "its own file"}},
     false},
    {"std::cerr", "It makes a supervisor wait: a process speaks through base/outlet (K6)."},
    {"decode_payload(frame.payload",
     "A sender may forbid that bytes which are not known here are passed over: `decode_frame` obeys (A26).",
     {{"protocols/wire/decode_frame.hpp", "where that is done"}},
     false},
    {"std::system", "A shell between us and a process hides its exit code and its death."},
};

findings bad_habits(const source_file& file, const habit& rule) {
  findings found;
  if (rule.exceptions.contains(file.path) || (!rule.in_tests && file.under("tests/")))
    return found;
  const auto& code = file.code;
  for (auto i = code.find(rule.text); i != std::string::npos; i = code.find(rule.text, i + 1)) {
    const auto end = i + rule.text.size();
    const bool inside_word = (i > 0 && is_word(code[i - 1])) || (end < code.size() && is_word(code[end]));
    if (!inside_word)
      found.push_back(at(file, i, rule.text));
  }
  return found;
}

/// Where product code drops a result, and no comment on that line or the one above says why.
findings unexplained_discards(const source_file& file) {
  static constexpr std::array<std::string_view, 4> forms{"(void)", "static_cast<void>", "std::ignore",
                                                         "[[maybe_unused]]"};
  const auto has_comment = [&](std::size_t line_begin) {
    const auto line = std::string_view{file.comments}.substr(line_begin);
    return line.substr(0, line.find('\n')).find_first_not_of(' ') != std::string_view::npos;
  };
  findings found;
  if (file.is_test())
    return found;
  for (const auto form : forms)
    for (auto i = file.code.find(form); i != std::string::npos; i = file.code.find(form, i + 1)) {
      const bool parameters = form == "(void)" && i > 0 && is_word(file.code[i - 1]);
      const auto newline = file.code.rfind('\n', i);
      const auto line = newline == std::string::npos ? 0 : newline + 1;
      const auto above = line < 2 ? line : file.code.rfind('\n', line - 2) + 1; // npos + 1 is 0
      if (!parameters && !has_comment(line) && !has_comment(above))
        found.push_back(at(file, i, form));
    }
  return found;
}

findings defaults_in_protocols(const source_file& file) {
  findings found;
  if (!file.under("protocols/"))
    return found;
  for (auto i = file.code.find("default"); i != std::string::npos; i = file.code.find("default", i + 1)) {
    const auto next = file.code.find_first_not_of(" \n", i + 7);
    if (next != std::string::npos && file.code[next] == ':')
      found.push_back(at(file, i, "default: in a switch"));
  }
  return found;
}

findings leftovers(const std::string& path, std::string_view text) {
  static const std::vector<std::string> marks{std::string("TO") + "DO", std::string("FIX") + "ME",
                                              std::string("X") + "XX"};
  findings found;
  for (const auto& mark : marks)
    for (auto i = text.find(mark); i != std::string_view::npos; i = text.find(mark, i + 1)) {
      const auto end = i + mark.size();
      if ((i == 0 || !is_word(text[i - 1])) && (end == text.size() || !is_word(text[end])))
        found.push_back(path + ":" + std::to_string(line_of(text, i)) + ": " + mark);
    }
  return found;
}

} // namespace

TEST_CASE("habits that hide faults stand nowhere") {
  for (const auto& rule : habits)
    report(over_all([&](const source_file& file) { return bad_habits(file, rule); }), rule.reason);
}

TEST_CASE("an exception from a habit names a file that is there and needs it") {
  for (const auto& rule : habits)
    for (const auto& [path, why] : rule.exceptions) {
      const auto file = std::ranges::find(sources(), path, &source_file::path);
      REQUIRE_MESSAGE(file != sources().end(), path, " is gone; its exception goes too");
      CHECK_MESSAGE(!bad_habits(*file, habit{rule.text, rule.reason}).empty(), path, " no longer needs ", rule.text);
      CHECK_MESSAGE(!why.empty(), path);
    }
}

TEST_CASE("a result that product code drops has its reason beside it") {
  report(over_all(unexplained_discards),
         "A result that nobody looks at may be the only word of a fault. Where it is of no interest, say why on that "
         "line or the one above.");
}

TEST_CASE("a switch in protocols names every case") {
  report(over_all(defaults_in_protocols),
         "With a default the compiler cannot say that a new state or message was forgotten (-Wswitch-enum).");
}

TEST_CASE("nothing is left for later in the text") {
  findings found;
  for (const auto& path : all_paths())
    if (!path.starts_with("deploy/models/") && !path.starts_with("deploy/pages/") && !path.starts_with("tests/golden/"))
      std::ranges::move(leftovers(path, read_text(root() / path)), std::back_inserter(found));
  report(found, "A note to oneself in the source is read by everybody and done by nobody: an issue has an owner.");
}

TEST_CASE("the rules of habits find what is planted") {
  for (const auto& rule : habits) {
    const auto text = "void f() { " + std::string(rule.text) + " {} }\n";
    CHECK_MESSAGE(bad_habits(read_cpp("gpu/x.cpp", text), rule).size() == 1, rule.text);
    CHECK_MESSAGE(bad_habits(read_cpp("gpu/x.cpp", "// " + text), rule).empty(), rule.text);
    auto excused = rule;
    excused.exceptions["gpu/x.cpp"] = "a test";
    CHECK_MESSAGE(bad_habits(read_cpp("gpu/x.cpp", text), excused).empty(), rule.text);
  }
  CHECK(bad_habits(read_cpp("gpu/x.cpp", "int operand; int random_engine;\n"), habit{"rand", ""}).empty());

  CHECK(unexplained_discards(read_cpp("gpu/x.cpp", "void f() {\n  (void)send(a);\n}\n")) ==
        findings{"gpu/x.cpp:2: (void)"});
  CHECK(unexplained_discards(read_cpp("gpu/x.cpp", "(void)send(a);\n")).size() == 1);
  CHECK(unexplained_discards(read_cpp("gpu/x.cpp", "\n  static_cast<void>(send(a));\n")).size() == 1);
  CHECK(unexplained_discards(read_cpp("gpu/x.cpp", "\n  [[maybe_unused]] const auto sent = send(a);\n")).size() == 1);
  CHECK(unexplained_discards(read_cpp("gpu/x.cpp", "\n  (void)send(a); // told twice\n")).empty());
  CHECK(unexplained_discards(read_cpp("gpu/x.cpp", "\n  // Told twice.\n  (void)send(a);\n")).empty());
  CHECK(unexplained_discards(read_cpp("gpu/x.cpp", "int f(void);\n")).empty());
  CHECK(unexplained_discards(read_cpp("tests/x.cpp", "\n  (void)send(a);\n")).empty());

  CHECK(defaults_in_protocols(read_cpp("protocols/x.cpp", "switch (a) {\n  default:\n}\n")) ==
        findings{"protocols/x.cpp:2: default: in a switch"});
  CHECK(defaults_in_protocols(read_cpp("protocols/x.hpp", "bool operator==(const a&) const = default;\n")).empty());

  CHECK(leftovers("x.sh", std::string("# TO") + "DO: later\n").size() == 1);
  CHECK(leftovers("x.sh", std::string("FIX") + "ME").size() == 1);
  CHECK(leftovers("x.sh", "mktemp step.XX"
                          "XXXX\n")
            .empty());
}
