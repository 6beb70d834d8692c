#include "gpu/models/tokenizers/tokenizer_neighbours.hpp"

#include <fmt/format.h>

#include "gpu/models/templates/template_words.hpp"

namespace troupe::gpu::models {
namespace {

bool is_there(const std::filesystem::path& file) {
  std::error_code ignored;
  return exists(file, ignored);
}

const nlohmann::json* find_added(const json_at& added, const nlohmann::json& content) {
  if (added->is_array())
    for (const nlohmann::json& each : *added)
      if (each.is_object() && each.value("content", nlohmann::json{}) == content)
        return &each;
  return nullptr;
}

/// `from` names a token by its content; its id must be that of tokenizer.json.
void check_token(const json_at& from, const nlohmann::json& content, const std::string& id, const json_at& added) {
  const nlohmann::json* const there = find_added(added, content);
  if (!there || there->value("id", nlohmann::json{}).dump() != id)
    throw from.bad(fmt::format("a token that tokenizer.json has among its added_tokens, with the same id{}",
                               there ? " " + there->value("id", nlohmann::json{}).dump() : ""));
}

/// tokenizer_config.json's own list, by id.
void check_decoder(const json_at& decoder, const json_at& added) {
  for (const auto& [id, token] : decoder->items()) {
    const json_at here = decoder[id];
    here.account_for(added_token_keys());
    check_token(here["content"], *here["content"], id, added);
    const nlohmann::json* const there = find_added(added, *here["content"]);
    if (here["special"].flag_or(false) != there->value("special", false))
      throw here["special"].bad("the same as in tokenizer.json");
  }
}

void check_added_tokens(const std::filesystem::path& file, const json_at& added) {
  const nlohmann::json root = read_tokenizer_json(file);
  const json_at from{root, file.string()};
  for (const auto& [content, id] : root.items())
    check_token(from[content], content, id.dump(), added);
}

nlohmann::json content_of(const nlohmann::json& token) {
  return token.is_object() ? token.value("content", nlohmann::json{}) : token;
}

void check_special_tokens(const std::filesystem::path& file, const nlohmann::json& config) {
  const nlohmann::json root = read_tokenizer_json(file);
  const json_at from{root, file.string()};
  for (const std::string_view name : special_token_names)
    if (const std::string key{name}; root.contains(key))
      if (content_of(root[key]) != content_of(config.value(key, nlohmann::json{})))
        throw from[key].bad("what tokenizer_config.json states");
}

} // namespace

void check_neighbours(const std::filesystem::path& folder, const json_at& added) {
  const auto file = folder / "tokenizer_config.json";
  const nlohmann::json config = is_there(file) ? read_tokenizer_json(file) : nlohmann::json::object();
  const json_at from{config, file.string()};
  from.account_for(tokenizer_config_keys());
  if (from["added_tokens_decoder"]->is_object())
    return check_decoder(from["added_tokens_decoder"], added);
  if (const auto other = folder / "added_tokens.json"; is_there(other))
    check_added_tokens(other, added);
  if (const auto other = folder / "special_tokens_map.json"; is_there(other))
    check_special_tokens(other, config);
}

} // namespace troupe::gpu::models
