#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "protocols/cluster/cluster_plan.hpp"
#include "runtime/cluster/spec_check.hpp"
#include "runtime/cluster/spec_explain.hpp"
#include "runtime/cluster/spec_schema.hpp"
#include "tests/cluster/run_directory.hpp"

using namespace troupe;
using cluster::read_spec;

namespace {

const std::string specs = std::string{TROUPE_SOURCE_DIR} + "/deploy/specs/";

/// Keys of an object that its schema does not know, and values that break it; as much of JSON Schema as ours uses.
void judge(const nlohmann::json& schema, const nlohmann::json& value, const std::string& at) {
  CAPTURE(at);
  const auto type = schema.at("type").get<std::string>();
  if (type == "object") {
    REQUIRE(value.is_object());
    for (const auto& key : schema.value("required", nlohmann::json::array()))
      CHECK(value.contains(key.get<std::string>()));
    for (const auto& [key, member] : value.items()) {
      const bool named = schema.contains("properties") && schema["properties"].contains(key);
      const auto& inner = named ? schema["properties"][key] : schema.at("additionalProperties");
      REQUIRE(inner.is_object());
      judge(inner, member, at + "." + key);
    }
  } else if (type == "integer") {
    REQUIRE(value.is_number_unsigned());
    CHECK(value >= schema.at("minimum"));
    CHECK(value <= schema.at("maximum"));
  } else if (type == "boolean") {
    CHECK(value.is_boolean());
  } else {
    CHECK(type == "string");
    REQUIRE(value.is_string());
    if (schema.contains("enum"))
      CHECK(std::ranges::find(schema["enum"], value) != schema["enum"].end());
  }
}

} // namespace

TEST_CASE("the schema takes the effective form of every shipped spec and names every default") {
  const auto schema = nlohmann::json::parse(cluster::spec_schema());
  CHECK(schema["$schema"] == "https://json-schema.org/draft/2020-12/schema");
  CHECK(schema["properties"]["timeouts"]["properties"]["kill_ms"]["default"] == 2000);
  for (const auto* name : {"reader", "stub-4", "reader-pp2-tp2"}) {
    const auto loaded = read_spec(specs + name + ".json");
    REQUIRE(loaded);
    judge(schema, nlohmann::json::parse(loaded->effective_json), name);
  }
}

TEST_CASE("explain names every value with the line that it came from") {
  const auto loaded = read_spec(specs + "reader.json");
  REQUIRE(loaded);
  const auto text = cluster::explain_values(*loaded);
  const auto line_of = [&](const std::string& key) {
    const auto begin = text.find(key + " ");
    REQUIRE(begin != text.npos);
    return text.substr(begin, text.find('\n', begin) - begin);
  };
  CHECK(line_of("pools.prefill.tensor_parallel").ends_with(" reader.json:10"));
  CHECK(line_of("pools.encode.tensor_parallel").ends_with(" default"));
  CHECK(line_of("limits.batch_max").find(" 32 ") != std::string::npos);
}

TEST_CASE("explain draws pools, ranks, groups and lanes") {
  const auto loaded = read_spec(specs + "reader.json");
  REQUIRE(loaded);
  const auto plan = protocols::make_plan(loaded->spec);
  REQUIRE(plan);
  const auto text = cluster::explain_plan(loaded->spec, *plan);
  CHECK(text.starts_with("reader: 6 ranks in 4 pools, serve on cpu, f32"));
  for (const auto& rank : plan->ranks)
    CHECK(text.find(rank.label) != std::string::npos);
  for (const auto& group : plan->groups)
    CHECK(text.find(group.name) != std::string::npos);
  CHECK(text.find("keys, values to decode") != std::string::npos);

  const auto dot = cluster::explain_dot(loaded->spec, *plan);
  CHECK(dot.starts_with("graph \"reader\" {"));
  CHECK(dot.ends_with("}\n"));
}

TEST_CASE("a layout that the model cannot be cut into is said before anything is started") {
  const auto text = [](int tensor_parallel) {
    return R"({ "troupe": 1, "name": "a", "model": { "path": "../models/reader" }, "pools": {
  "f": { "role": "front" }, "e": { "role": "encode" },
  "p": { "role": "prefill", "tensor_parallel": )" +
           std::to_string(tensor_parallel) + R"( }, "d": { "role": "decode" } } })";
  };
  const auto good = cluster::read_spec_text(text(2), specs + "a.json");
  const auto bad = cluster::read_spec_text(text(3), specs + "a.json");
  REQUIRE((good && bad));

  const auto checked = cluster::check_model(*good);
  REQUIRE_MESSAGE(checked, checked.error().what);
  CHECK(checked->facts->context_max == 4096);
  CHECK(checked->notes.empty());

  const auto refused = cluster::check_model(*bad);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().what.find("a.json:3:3: pools.p: ") != std::string::npos);
  CHECK(refused.error().what.find("tensor_parallel 3") != std::string::npos);
}

TEST_CASE("K10: a model whose weights have more layers than config.json counts is refused with file, key and numbers") {
  const tests::run_directory here;
  const auto model = here.path() / "model";
  std::filesystem::copy(std::string{TROUPE_SOURCE_DIR} + "/deploy/models/reader", model);
  const auto whole = nlohmann::json::parse(std::ifstream{model / "config.json"});
  std::filesystem::permissions(model / "config.json", std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
  const auto refusal = [&](const char* pointer, int layers) {
    auto cut = whole;
    cut[nlohmann::json::json_pointer{pointer}] = layers;
    std::ofstream{model / "config.json"} << cut;
    const auto spec = cluster::read_spec_text(
        R"({ "troupe": 1, "name": "a", "model": { "path": "model" }, "pools": { "one": { "role": "all" } } })",
        (here.path() / "a.json").string());
    REQUIRE(spec);
    const auto checked = cluster::check_model(*spec);
    return checked ? std::string{} : checked.error().what;
  };
  const auto file = (model / "config.json").string();
  CHECK(refusal("/text_config/num_hidden_layers", 7)
            .ends_with(file + ": text_config.num_hidden_layers is 7, and the weights have 8 layers "
                              "(model.language_model.layers.7); valid here: 8"));
  CHECK(refusal("/vision_config/depth", 5)
            .ends_with(file +
                       ": vision_config.depth is 5, and the weights have 6 layers (model.visual.blocks.5); valid "
                       "here: 6"));
  CHECK(refusal("/vision_config/depth", 6).empty());
}
