#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

/// The keys of a model folder's JSON files, each with what becomes of it. A key that is overlooked computes something
/// else than was published, without a word: so each is read, known to change nothing here, or refused by name. A key
/// that stands in no table is refused too, unless it is null or false (which is how files say that something is off) or
/// begins with _ (the library's own notes): a folder that says more than is understood here may mean more.
/// Contract: K10.
namespace troupe::gpu::models {

struct key_rule {
  enum class effect {
    read, ///< honoured or refused where it is read
    none, ///< changes neither prompts nor numbers here
    only  ///< may have a value of `valid`, or be null: any other changes what is computed, and is refused
  };
  std::string_view key;
  effect what = effect::read;
  std::string_view valid = {}; ///< JSON values, by commas
};
using key_rules = std::span<const key_rule>;

key_rules general_keys();          ///< what every object of config.json may hold
key_rules text_keys();             ///< config.json of a text model, or its text_config
key_rules picture_model_keys();    ///< config.json of a model with pictures, at its top
key_rules vision_keys();           ///< vision_config
key_rules rope_keys();             ///< rope_parameters, rope_scaling
key_rules vision_rope_keys();      ///< rope_parameters of vision_config
key_rules generation_keys();       ///< generation_config.json
key_rules preprocessor_keys();     ///< preprocessor_config.json
key_rules picture_size_keys();     ///< `size` of it
key_rules tokenizer_config_keys(); ///< tokenizer_config.json
key_rules tokenizer_keys();        ///< tokenizer.json
key_rules bpe_keys();              ///< `model` of it
key_rules pre_tokenizer_keys();    ///< a step of `pre_tokenizer` of it
key_rules added_token_keys();      ///< one of its `added_tokens`

struct unaccounted_key {
  std::string key;
  std::string valid; ///< for the message
};
/// The first key of `object` that no rule admits.
std::optional<unaccounted_key> find_unaccounted(const nlohmann::json& object, std::initializer_list<key_rules> rules);

} // namespace troupe::gpu::models
