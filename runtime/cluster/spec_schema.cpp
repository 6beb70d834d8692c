#include "runtime/cluster/spec_schema.hpp"

#include <nlohmann/json.hpp>

#include "runtime/cluster/json_text.hpp"
#include "runtime/cluster/spec_keys.hpp"

namespace troupe::cluster {
namespace {

using json = nlohmann::ordered_json;

template <class Owner>
json schema_of(const spec_key<Owner>& key) {
  json schema{{"description", key.description}};
  if (std::holds_alternative<bool>(key.initial)) {
    schema["type"] = "boolean";
  } else if (std::holds_alternative<std::uint64_t>(key.initial)) {
    schema["type"] = "integer";
    schema["minimum"] = key.least;
    schema["maximum"] = key.most;
  } else {
    schema["type"] = "string";
    if (!key.choices.empty())
      schema["enum"] = key.choices;
    if (!key.pattern.empty())
      schema["pattern"] = key.pattern;
  }
  if (!key.required)
    std::visit([&](const auto& value) { schema["default"] = value; }, key.initial);
  return schema;
}

/// An object that takes these keys and no others.
template <class Owner>
json object_of(const std::vector<spec_key<Owner>>& keys) {
  json schema{{"type", "object"}, {"additionalProperties", false}, {"properties", json::object()}};
  auto required = json::array();
  for (const auto& key : keys) {
    schema["properties"][std::string{key.name}] = schema_of(key);
    if (key.required)
      required.push_back(key.name);
  }
  if (!required.empty())
    schema["required"] = required;
  return schema;
}

} // namespace

std::string spec_schema() {
  json root{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", "Troupe cluster spec"}};
  for (const auto& section : spec_sections()) {
    auto schema = object_of(section.keys);
    if (section.name.empty()) {
      root.update(schema);
    } else {
      schema["description"] = section.description;
      root["properties"][std::string{section.name}] = std::move(schema);
    }
  }
  root["properties"]["pools"] = json{{"description", pools_description},
                                     {"type", "object"},
                                     {"minProperties", 1},
                                     {"propertyNames", {{"pattern", pool_name_pattern}}},
                                     {"additionalProperties", object_of(pool_keys())}};
  root["required"].push_back("pools");
  return text_of(root, 2);
}

} // namespace troupe::cluster
