#include "runtime/cluster/drill_file.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "tests/cluster/run_directory.hpp"

using namespace troupe;
using namespace troupe::cluster;

namespace {

const std::filesystem::path folder = std::filesystem::path{TROUPE_SOURCE_DIR} / "deploy/drills";

std::string drill_text(const std::string& event, const std::string& expect = R"("outcome": "ended")") {
  return R"({
  "drill": 1,
  "name": "one",
  "spec": "cluster.json",
  "load": { "pages": "pages.json" },
  "events": [ { )" +
         event + R"( } ],
  "expect": { )" +
         expect + " }\n}";
}

std::string problem_of(const std::string& text) {
  const auto read = read_drill_text(text, folder / "one.json");
  return read ? std::string{} : read.error().what;
}

} // namespace

TEST_CASE("every drill that is shipped is read, its spec allows drills, and its rules fit the plan") {
  std::size_t seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator{folder}) {
    const auto name = entry.path().filename();
    if (entry.path().extension() != ".json" || name == "cluster.json" || name == "pages.json")
      continue;
    CAPTURE(name.string());
    const auto drill = read_drill(entry.path());
    REQUIRE_MESSAGE(drill, drill.error().what);
    CHECK(drill->name == name.stem());
    CHECK_FALSE(drill->sentence.empty());
    const auto spec = read_spec(drill->spec);
    REQUIRE_MESSAGE(spec, spec.error().what);
    CHECK(spec->spec.drills);
    const auto plan = protocols::make_plan(spec->spec);
    REQUIRE(plan);
    for (const auto& event : drill->events) {
      const auto rule = resolve_rule(event.rule, *plan);
      CHECK_MESSAGE(rule, (rule ? "" : rule.error().what));
    }
    for (const auto& act : drill->scene) {
      const auto rule = act.act == scene_act::inject ? resolve_rule(act.rule, *plan) : protocols::inject{};
      CHECK_MESSAGE(rule, (rule ? "" : rule.error().what));
    }
    ++seen;
  }
  CHECK(seen > 0);
}

TEST_CASE("the pages of drills have the answers of an independent implementation") {
  const auto pages = read_drill_pages(folder / "pages.json");
  REQUIRE_MESSAGE(pages, pages.error().what);
  CHECK(pages->size() == 8);
  for (const auto& page : *pages) {
    CHECK(std::filesystem::exists(page.image));
    CHECK_FALSE(page.answer.empty());
  }
}

TEST_CASE("a drill is read with its defaults and with paths relative to its file") {
  const auto drill = read_drill_text(drill_text(R"("when": "ready", "rank": "front", "action": "kill", "after_ms": 7)"),
                                     folder / "one.json");
  REQUIRE_MESSAGE(drill, drill.error().what);
  CHECK(drill->name == "one");
  CHECK(drill->spec == folder / "cluster.json");
  CHECK(drill->deadline_ms == 60'000);
  CHECK(drill->load.repeat == 1);
  CHECK(drill->load.end == drill_end::drain);
  REQUIRE(drill->events.size() == 1);
  CHECK(drill->events[0].when == drill_moment::ready);
  CHECK(drill->events[0].after_ms == 7);
  CHECK(drill->events[0].rule.rank == "front");
  CHECK(drill->events[0].rule.times == 1);
  CHECK(drill->expect.outcome == drill_outcome::ended);
  CHECK(drill->expect.exit_code == 6);
}

TEST_CASE("everything that is wrong with a drill is told at once, with line, column and what was probably meant") {
  const auto good = std::string{R"("when": "ready", "rank": "front", "action": "kill")"};
  CHECK(problem_of(drill_text(good)).empty());

  const auto several = problem_of(drill_text(R"("when": "redy", "rank": "front", "acton": "kill")"));
  CHECK(several.find("events[0].when is one of launch, ready, load, not \"redy\"; did you mean "
                     "'ready'?") != std::string::npos);
  CHECK(several.find("unknown key 'acton' in events[0]; did you mean 'action'?") != std::string::npos);
  CHECK(several.find("'events[0].action' is missing") != std::string::npos);

  CHECK(problem_of(drill_text(good, R"("outcome": "endet")")).find("did you mean 'ended'?") != std::string::npos);
  CHECK(problem_of(drill_text(good, R"("outcome": "ended", "outcome": "served")")).find("is written twice") !=
        std::string::npos);
  CHECK(problem_of(drill_text(good + R"(, "skip": -1)")).find("whole number from 0") != std::string::npos);
  CHECK(problem_of(drill_text(good + R"(, "point": "front.emited")")).find("did you mean 'front.emitted'?") !=
        std::string::npos);
  CHECK(problem_of("[]").find("is an object, not a list") != std::string::npos);
  CHECK(problem_of("{").find("one.json:1:") != std::string::npos);
  const auto empty = problem_of("{}");
  for (const auto* key : {"drill", "name", "spec", "load", "events", "expect"})
    CHECK(empty.find(std::string{"'"} + key + "' is missing") != std::string::npos);
}

TEST_CASE("a drill of another version, and pages that are none, are refused") {
  auto text = drill_text(R"("when": "ready", "rank": "front", "action": "kill")");
  text.replace(text.find(": 1,"), 4, ": 2,");
  CHECK(problem_of(text).find("drill is 1 in this build") != std::string::npos);

  const tests::run_directory here;
  const auto refused = [&](const std::string& pages) {
    std::ofstream{here.path() / "pages.json"} << pages;
    const auto read = read_drill_pages(here.path() / "pages.json");
    return read ? std::string{} : read.error().what;
  };
  CHECK(refused(R"([{"prompt": "a"}])").empty());
  CHECK(refused("[]").find("no page") != std::string::npos);
  CHECK(refused("{}").find("a list of at most") != std::string::npos);
  CHECK(refused(R"([{"promt": "a"}])").find("did you mean 'prompt'?") != std::string::npos);
  CHECK(refused(R"([{"prompt": "a", "answer": [1, -2]}])").find("[0].answer[1] is a token id") != std::string::npos);
  CHECK_FALSE(read_drill_pages(here.path() / "absent.json"));
  for (const std::string& said : {read_drill_pages(here.path()).error().what, read_drill(here.path()).error().what})
    CHECK(said == "cannot read " + here.path().string() + ": it is a directory");
}

TEST_CASE("a scene is read act by act, and an act that cannot be played is told") {
  const auto with_scene = [](const std::string& acts) {
    auto text = drill_text(R"("when": "ready", "rank": "front", "action": "kill")");
    return text.insert(text.find("\"events\""), "\"scene\": [" + acts + "], ");
  };
  const auto read = read_drill_text(with_scene(R"({"act": "ask", "client": 2, "page": 3}, {"act": "until_token"},
                                    {"act": "leave", "client": 2, "after_ms": 50},
                                    {"act": "inject", "rank": "decode.0", "action": "slow", "ms": 100, "times": 0})"),
                                    folder / "one.json");
  REQUIRE_MESSAGE(read, read.error().what);
  REQUIRE(read->scene.size() == 4);
  CHECK(read->scene[0].act == scene_act::ask);
  CHECK(read->scene[0].client == 2);
  CHECK(read->scene[0].page == 3);
  CHECK(read->scene[1].act == scene_act::until_token);
  CHECK(read->scene[2].after_ms == 50);
  CHECK(read->scene[3].rule.rank == "decode.0");
  CHECK(read->scene[3].rule.times == 0);

  CHECK(problem_of(with_scene(R"({"act": "sing"})")).find("until_answered") != std::string::npos);
  CHECK(problem_of(with_scene(R"({"act": "inject", "rank": "front"})")).find("'rank' and 'action' say what") !=
        std::string::npos);
  CHECK(problem_of(with_scene(R"({"act": "ask", "page": 900})")).find("asks page 900; there are 8") !=
        std::string::npos);
}
