#include "gpu/models/end_tokens.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "gpu/models/json_file.hpp"
#include "gpu/models/tokenizers/tokenizer_json.hpp"

namespace troupe::gpu::models {

using nlohmann::json;
using protocols::result;
using protocols::token_id;

namespace {

using tokens = std::vector<token_id>;

bool is_there(const std::filesystem::path& file) {
  std::error_code ignored;
  return exists(file, ignored);
}

void add(tokens& to, token_id id) {
  if (std::ranges::find(to, id) == to.end())
    to.push_back(id);
}

void read_ids(key_reader& keys, const json& object, std::uint32_t vocabulary, tokens& into) {
  if (!keys.has("eos_token_id"))
    return;
  if (!object["eos_token_id"].is_array())
    return add(into, keys.token("eos_token_id", vocabulary));
  for (const std::uint32_t id : keys.counts("eos_token_id", vocabulary - 1))
    add(into, static_cast<token_id>(id));
}

std::optional<token_id> id_in(const json& added) {
  const bool whole = added.is_number_unsigned() && added.get<std::uint64_t>() <= 0x7FFFFFFF;
  return whole ? std::optional{added.get<token_id>()} : std::nullopt;
}

/// The id of a token that stands beside the vocabulary; the vocabulary itself, which may be of many megabytes, is
/// skipped.
std::optional<token_id> id_in_tokenizer(const std::filesystem::path& file, const std::string& content) {
  if (!is_there(file))
    return std::nullopt;
  const auto is_model = [](int depth, json::parse_event_t event, json& parsed) {
    return !(depth == 1 && event == json::parse_event_t::key && parsed == "model");
  };
  const json root = json::parse(read_text(file), is_model, false);
  if (!root.is_object() || !root.contains("added_tokens") || !root["added_tokens"].is_array())
    return std::nullopt; // said by name where the tokenizer is opened
  for (const json& each : root["added_tokens"])
    if (each.is_object() && each.value("content", json{}) == content)
      return id_in(each.value("id", json{}));
  return std::nullopt;
}

std::optional<token_id> id_in_decoder(const json_at& decoder, const std::string& content) {
  if (!decoder->is_object())
    return std::nullopt;
  for (const auto& [key, value] : decoder->items()) {
    token_id id = 0;
    const bool whole = std::from_chars(key.data(), key.data() + key.size(), id).ptr == key.data() + key.size();
    if (whole && value.is_object() && value.value("content", json{}) == content)
      return id;
  }
  return std::nullopt;
}

/// Throws bad_file.
void read_eos_token(const std::filesystem::path& folder, std::uint32_t vocabulary, tokens& into) {
  const auto file = folder / "tokenizer_config.json";
  if (!is_there(file))
    return;
  const json root = read_tokenizer_json(file);
  const json_at from{root, file.string()}, token = from["eos_token"];
  if (token->is_null())
    return;
  const std::string& content = token->is_object() ? token["content"].text() : token.text();
  auto id = id_in_decoder(from["added_tokens_decoder"], content);
  if (!id)
    id = id_in_tokenizer(folder / "tokenizer.json", content);
  if (id && *id >= 0 && static_cast<std::uint32_t>(*id) < vocabulary)
    add(into, *id);
}

} // namespace

result<tokens> find_end_tokens(const std::filesystem::path& folder, const json& config, std::uint32_t vocabulary) try {
  std::optional<protocols::failure> problem;
  tokens found;
  if (const auto file = folder / "generation_config.json"; is_there(file)) {
    const auto object = read_object(file);
    if (!object)
      return tl::unexpected(object.error());
    key_reader keys{*object, file.string() + ": ", problem};
    keys.account_for({generation_keys()});
    read_ids(keys, *object, vocabulary, found);
  }
  key_reader top{config, (folder / "config.json").string() + ": ", problem};
  read_ids(top, config, vocabulary, found);
  if (config.contains("text_config")) {
    key_reader text = top.child("text_config");
    read_ids(text, config["text_config"], vocabulary, found);
  }
  read_eos_token(folder, vocabulary, found);
  if (found.empty())
    top.refuse("eos_token_id", "a token id or a list of them, here or in generation_config.json");
  if (problem)
    return tl::unexpected(*problem);
  return found;
} catch (const bad_file& problem) {
  return protocols::fail(protocols::fault::config_invalid, problem.what());
}

} // namespace troupe::gpu::models
