#include "gpu/models/pictures/preprocessor.hpp"

#include "gpu/models/config_keys.hpp"
#include "gpu/models/json_file.hpp"

namespace troupe::gpu::models {

using nlohmann::json;
using protocols::result;

namespace {

/// Without the keys that change nothing.
json told(const json& object) {
  json out = json::object();
  for (const auto& [key, value] : object.items())
    for (const key_rule& rule : preprocessor_keys())
      if (rule.key == key && rule.what == key_rule::effect::read && !value.is_null())
        out[key] = value;
  return out;
}

/// Null where the folder has none.
result<json> nested_in_processor(const std::filesystem::path& file) {
  if (std::error_code ignored; !exists(file, ignored))
    return json{};
  const auto object = read_object(file);
  if (!object)
    return tl::unexpected(object.error());
  const auto at = object->find("image_processor");
  return at == object->end() ? json{} : *at;
}

} // namespace

result<preprocessor_object> find_preprocessor(const std::filesystem::path& folder) {
  const auto own_file = folder / "preprocessor_config.json", processor_file = folder / "processor_config.json";
  const auto nested = nested_in_processor(processor_file);
  if (!nested)
    return tl::unexpected(nested.error());
  const std::string where = processor_file.string() + ": image_processor";
  if (!nested->is_null() && !nested->is_object())
    return protocols::fail(protocols::fault::config_invalid,
                           where + " is " + nested->type_name() + "; valid here: an object");
  if (std::error_code ignored; nested->is_object() && !exists(own_file, ignored))
    return preprocessor_object{*nested, where + "."};
  auto own = read_object(own_file);
  if (!own)
    return tl::unexpected(own.error());
  if (nested->is_object() && told(*nested) != told(*own))
    return protocols::fail(protocols::fault::config_invalid,
                           where + " is another one than " + own_file.string() +
                               " states; valid here: the same, or only one of the two");
  return preprocessor_object{*std::move(own), own_file.string() + ": "};
}

} // namespace troupe::gpu::models
