#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/command.hpp"

using namespace troupe::tests;
using nlohmann::json;

namespace {

std::vector<std::string> shipped_specs() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator{TROUPE_SOURCE_DIR "/deploy/specs"})
    if (entry.path().extension() == ".json")
      files.push_back(entry.path().string());
  return files;
}

} // namespace

TEST_CASE("Every spec that is shipped is valid") {
  const auto specs = shipped_specs();
  REQUIRE_FALSE(specs.empty());
  for (const auto& spec : specs) {
    CAPTURE(spec);
    const auto end = run_troupe({"spec", "validate", spec});
    CHECK(end.exit_code == 0);
    CHECK(has(end.out, "valid; "));
    CHECK(end.err.empty());
  }
}

TEST_CASE(
    "What is wrong with a spec is said with file, line and what would be valid, by every command that takes one") {
  const scratch_folder here;
  const struct {
    std::string_view what;
    std::string text;
    std::string_view wanted;
  } cases[] = {
      {"not JSON", "{\"troupe\": 1,, }", "bad.json:1:"},
      {"unknown key", reader_spec(one_rank(), R"(, "timeots": {})"), "timeouts"},
      {"unknown role", reader_spec(R"({"one": {"role": "front-end"}})"), "front"},
      {"no front", reader_spec(R"({"e": {"role": "encode"}})"), "front"},
      {"a layout that the model does not allow",
       reader_spec(R"({"f": {"role": "front"}, "e": {"role": "encode"}, "p": {"role": "prefill", "tensor_parallel": 3},
                       "d": {"role": "decode"}})"),
       "1, 2, 4"},
      {"timeouts out of order", reader_spec(one_rank(), R"(, "timeouts": {"heartbeat_ms": 5000})"), "heartbeat_ms"},
      {"no model there",
       R"({"troupe": 1, "name": "x", "program": "serve", "model": {"path": "nowhere"}, "pools": {"one": {"role": "all"}}})",
       "nowhere"},
  };
  for (const auto& bad : cases) {
    const auto file = here.write("bad.json", bad.text);
    for (const auto& arguments : {std::vector<std::string>{"spec", "validate", file},
                                  {"spec", "explain", file},
                                  {"run", file, "--prompt", "a", "--job", here.job()},
                                  {"up", file, "--job", here.job()}}) {
      CAPTURE(bad.what);
      CAPTURE(arguments.front());
      command run{arguments};
      const auto end = run.finish();
      CAPTURE(end.err);
      CHECK(end.exit_code == 3);
      CHECK(end.out.empty());
      CHECK(end.err.starts_with("troupe: "));
      CHECK(has(end.err, "bad.json"));
      CHECK(has(end.err, bad.wanted));
      CHECK(ranks_of(run.pid()).empty());
    }
  }
}

TEST_CASE("A spec that cannot be read is said in one line") {
  const scratch_folder here;
  for (const auto& file : {here / "none.json", here / "."}) {
    const auto end = run_troupe({"spec", "validate", file});
    CHECK(end.exit_code == 3);
    CHECK(lines_in(end.err) == 1);
    CHECK(has(end.err, file));
  }
}

TEST_CASE("A cluster of stubs cannot be asked") {
  const auto end = run_troupe({"run", TROUPE_SOURCE_DIR "/deploy/specs/stub-4.json", "--prompt", "a"});
  CHECK(end.exit_code == 3);
  CHECK(lines_in(end.err) == 1);
  CHECK(has(end.err, "only stubs"));
}

TEST_CASE("spec validate --json says what people are told, as one object") {
  const scratch_folder here;
  const auto good = run_troupe({"spec", "validate", here.write("good.json", reader_spec(one_rank())), "--json"});
  CHECK(good.exit_code == 0);
  const auto said = json::parse(good.out);
  CHECK(said["valid"] == true);
  CHECK(said["ranks"] == 1);
  CHECK(said["digest"].is_string());

  const auto bad = run_troupe({"spec", "validate", here.write("bad.json", "{}"), "--json"});
  CHECK(bad.exit_code == 3);
  const auto why = json::parse(bad.out);
  CHECK(why["valid"] == false);
  CHECK_FALSE(why["problems"].empty());
}

TEST_CASE("spec explain shows values with their origin, the plan, a graph, or all of it as JSON") {
  const scratch_folder here;
  const auto file = here.write("s.json", reader_spec(R"({"f": {"role": "front"}, "e": {"role": "encode"},
                                "p": {"role": "prefill", "tensor_parallel": 2}, "d": {"role": "decode"}})"));
  const auto words = run_troupe({"spec", "explain", file});
  CHECK(words.exit_code == 0);
  CHECK(has(words.out, "s.json:1"));
  CHECK(has(words.out, "default"));

  const auto graph = run_troupe({"spec", "explain", file, "--dot"});
  CHECK(has(graph.out, "graph"));

  const auto tree = json::parse(run_troupe({"spec", "explain", file, "--json"}).out);
  CHECK(tree["ranks"].size() == 5);
  CHECK(tree["ranks"][0]["role"] == "front");
  CHECK(tree["groups"].size() >= 1);
  CHECK(tree["spec"]["pools"]["p"]["tensor_parallel"] == 2);
}

TEST_CASE("spec schema is a JSON Schema") {
  const auto end = run_troupe({"spec", "schema"});
  CHECK(end.exit_code == 0);
  const auto schema = json::parse(end.out);
  CHECK(has(schema["$schema"].get<std::string>(), "json-schema.org"));
  CHECK(schema["properties"].contains("pools"));
}

TEST_CASE("A model whose weights cannot be used is said in one line, before a rank is started") {
  const scratch_folder here;
  enum class harm { truncated, missing, header };
  for (const auto which : {harm::truncated, harm::missing, harm::header}) {
    CAPTURE(static_cast<int>(which));
    const std::filesystem::path model{here / "model"};
    std::filesystem::remove_all(model);
    std::filesystem::copy(reader_model(), model);
    const auto weights = model / "model.safetensors";
    if (which == harm::missing)
      std::filesystem::remove(weights);
    else
      std::filesystem::resize_file(weights, which == harm::truncated ? 6'000'000 : 100);
    const auto spec = here.write(
        "broken.json", R"({"troupe": 1, "name": "x", "model": {"path": "model"}, "pools": {"one": {"role": "all"}}})");
    command run{{"run", spec, "--prompt", "a", "--job", here.job()}};
    const auto end = run.finish();
    CAPTURE(end.err);
    CHECK(end.exit_code == 3);
    CHECK(lines_in(end.err) == 1);
    CHECK(has(end.err, "broken.json"));
    CHECK(has(end.err, "safetensors"));
    CHECK(ranks_of(run.pid()).empty());
  }
}
